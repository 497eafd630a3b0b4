package store

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/overland-net/overland/pkg/model"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

const (
	canada     = "canada"
	testLimit  = 8 << 20
	presentID  = "the-present-boot"
	previousID = "the-boot-before"
)

func uid(i int) model.UID { return model.UID{0: byte(i), 1: byte(i >> 8), 15: 1} }

// at is a time that the store gives back as it is: without a monotonic part.
func at(second int64) time.Time { return time.Unix(1_800_000_000+second, 500) }

// open gives a store of the folder as if booted in boot, with its log.
func open(t testing.TB, dir, boot string) (*Store, *logtest.Hook) {
	t.Helper()
	logger, hook := logtest.NewNullLogger()
	s, err := Open(dir, testLimit, logrus.NewEntry(logger))
	if err != nil {
		t.Fatal(err)
	}
	s.boot = boot
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return s, hook
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustAppend(t testing.TB, s *Store, contact time.Time, changes ...model.Change) {
	t.Helper()
	if err := s.Append(canada, uid(1), contact, changes); err != nil {
		t.Fatal(err)
	}
}

// warnings are those of the log, and makes it empty.
func warnings(hook *logtest.Hook) []string {
	var all []string
	for _, e := range hook.AllEntries() {
		if e.Level <= logrus.WarnLevel {
			line, err := e.String()
			if err != nil {
				line = err.Error()
			}
			all = append(all, line)
		}
	}
	hook.Reset()
	return all
}

func pod(i int) *model.Endpoint {
	return &model.Endpoint{
		Key: model.PodKey(canada, "shop", fmt.Sprintf("cart-%05d", i)), UID: uid(i),
		Labels:         model.NewLabels(map[string]string{"app": "cart", "n": fmt.Sprint(i % 7)}),
		ServiceAccount: "cart", Node: fmt.Sprintf("node-%d", i%3), Created: int64(1000 + i), Terminating: i%5 == 0,
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), netip.MustParseAddr("fd00::1")},
		Ports:     []model.NamedPort{{Name: "http", Protocol: model.TCP, Port: uint16(8000 + i%100)}},
	}
}

// facts are one of each kind and form.
func facts() []model.Fact {
	every := model.LabelSelector(nil)
	odd := model.LabelSelector{{Key: "app", Operator: model.NotIn, Values: []string{"a", "b"}}, {Key: "x", Operator: model.Exists}}
	return []model.Fact{
		pod(1), pod(2),
		&model.Endpoint{Key: model.NodeKey(canada, "node-1"), Node: "node-1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}},
		&model.Namespace{
			Key: model.NamespaceKey(canada, "shop"), UID: uid(9), PeerScope: "mesh", ClusterName: canada,
			Labels: model.NewLabels(map[string]string{"team": "shop", strings.Repeat("long", 60): "\xff not UTF-8"}),
		},
		&model.Namespace{Key: model.NamespaceKey(canada, "empty")},
		&model.Policy{Key: model.PolicyKey(canada, "shop", "empty")},
		&model.Policy{
			Key: model.PolicyKey(canada, "shop", "full"), UID: uid(3), Generation: 7, PeerScope: "local", Pods: odd,
			Ingress: true, Egress: true, Malformed: []string{"spec.ingress[0].ports[1]: what"},
			IngressRules: []model.PolicyRule{{AnyPeer: true, AnyPort: true}, {
				Peers: []model.PolicyPeer{
					{Pods: &every},
					{Namespaces: &every},
					{Pods: &odd, Namespaces: &odd},
					{Block: netip.MustParsePrefix("10.0.0.0/8"), Except: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}},
					{Block: netip.MustParsePrefix("::ffff:10.0.0.0/104")},
				},
				Ports: []model.PolicyPort{{Protocol: model.UDP, First: 5, Last: 9}, {Protocol: model.SCTP}, {Protocol: model.TCP, Name: "http"}},
			}},
			EgressRules: []model.PolicyRule{{AnyPort: true}},
		},
		&model.Cluster{Name: canada},
		&model.Cluster{
			Name: "west", Local: true, UID: uid(4), Created: 99, Labels: model.NewLabels(map[string]string{"region": "us"}),
			PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/48")}, NodeCIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
			Suspended: true, StaleAfter: time.Hour, EndpointLimit: 250_000,
		},
	}
}

func sets(all []model.Fact) []model.Change {
	var changes []model.Change
	for _, f := range all {
		changes = append(changes, model.Set(f))
	}
	return changes
}

// byKey checks that each key is there once, and set.
func byKey(t testing.TB, changes []model.Change) map[model.Key]model.Fact {
	t.Helper()
	all := map[model.Key]model.Fact{}
	for _, c := range changes {
		if _, twice := all[c.Key]; twice || c.Value == nil {
			t.Fatalf("%s is there twice, or gone", c.Key)
		}
		all[c.Key] = c.Value
	}
	return all
}

// same compares all that facts have; labels are compared by content.
func same() cmp.Options {
	return cmp.Options{
		cmp.Comparer(func(a, b model.Labels) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
}

func diffFacts(t testing.TB, want map[model.Key]model.Fact, got []model.Change) string {
	t.Helper()
	return cmp.Diff(want, byKey(t, got), same())
}

func TestFactsComeBackAsTheyWere_3_3(t *testing.T) {
	for _, how := range []string{"Append", "Rewrite"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := open(t, dir, presentID)
			if how == "Append" {
				mustAppend(t, s, at(1), sets(facts())...)
			} else if err := s.Rewrite(canada, uid(1), at(1), slices.Values(facts())); err != nil {
				t.Fatal(err)
			}
			closeStore(t, s)
			s, hook := open(t, dir, "another boot: the file is whole")
			image, ok := s.Load(canada)
			if !ok || image.ClusterUID != uid(1) || !image.LastContact.Equal(at(1)) {
				t.Fatalf("Load gives %v, %v", image, ok)
			}
			if diff := diffFacts(t, byKey(t, sets(facts())), image.Facts); diff != "" {
				t.Error(diff)
			}
			if got := s.Clusters(); !slices.Equal(got, []string{canada}) {
				t.Errorf("Clusters gives %q", got)
			}
			if got := warnings(hook); len(got) > 0 {
				t.Errorf("warnings: %q", got)
			}
		})
	}
}

func TestTheLastChangeOfAKeyCounts(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, presentID)
	random := rand.New(rand.NewPCG(5, 5))
	want := map[model.Key]model.Fact{}
	second := int64(0)
	for range 300 {
		second++
		var changes []model.Change
		for range random.IntN(20) {
			p := pod(random.IntN(40))
			if random.IntN(2) == 0 {
				changes = append(changes, model.Gone(p.Key))
				delete(want, p.Key)
			} else {
				p.Node = fmt.Sprint(random.Uint32())
				changes = append(changes, model.Set(p))
				want[p.Key] = p
			}
		}
		mustAppend(t, s, at(second), changes...)
		if random.IntN(40) == 0 {
			if err := s.Rewrite(canada, uid(1), at(second), maps.Values(want)); err != nil {
				t.Fatal(err)
			}
		}
		if random.IntN(10) > 0 {
			continue
		}
		closeStore(t, s)
		s, _ = open(t, dir, []string{presentID, previousID}[random.IntN(2)])
		image, ok := s.Load(canada)
		if !ok || !image.LastContact.Equal(at(second)) {
			t.Fatalf("Load gives %v, %v", image.LastContact, ok)
		}
		if diff := diffFacts(t, want, image.Facts); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestABatchLargerThanARecordIsWhole(t *testing.T) {
	s, _ := open(t, t.TempDir(), presentID)
	var changes []model.Change
	for i := range 3*changesARecord + 7 {
		changes = append(changes, model.Set(pod(i)))
	}
	mustAppend(t, s, at(1), changes...)
	image, ok := s.Load(canada)
	if !ok || diffFacts(t, byKey(t, changes), image.Facts) != "" {
		t.Errorf("of %d facts %d came back", len(changes), len(image.Facts))
	}
}

func TestContactAloneIsKept_3_3(t *testing.T) {
	s, _ := open(t, t.TempDir(), presentID)
	if _, ok := s.Load(canada); ok {
		t.Fatal("there is something in an empty folder")
	}
	mustAppend(t, s, time.Time{}, model.Set(pod(1)))
	if image, ok := s.Load(canada); !ok || !image.LastContact.IsZero() {
		t.Errorf("without contact Load gives %v, %v", image.LastContact, ok)
	}
	mustAppend(t, s, at(5))
	if image, ok := s.Load(canada); !ok || !image.LastContact.Equal(at(5)) || len(image.Facts) != 1 {
		t.Errorf("Load gives %v, %v", image, ok)
	}
}

func TestAnotherUIDStartsAnew_3_3(t *testing.T) {
	s, hook := open(t, t.TempDir(), presentID)
	mustAppend(t, s, at(1), model.Set(pod(1)))
	if err := s.Append(canada, uid(2), at(2), []model.Change{model.Set(pod(2))}); err != nil {
		t.Fatal(err)
	}
	image, ok := s.Load(canada)
	if !ok || image.ClusterUID != uid(2) || len(image.Facts) != 1 || image.Facts[0].Key != pod(2).Key {
		t.Errorf("Load gives %v, %v", image, ok)
	}
	if got := warnings(hook); len(got) > 0 {
		t.Errorf("warnings: %q", got)
	}
}

func TestRemovedIsGone_3_3(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, presentID)
	mustAppend(t, s, at(1), model.Set(pod(1)))
	for range 2 { // to remove nothing is no error
		if err := s.Remove(canada); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	mustAppend(t, s, at(2), model.Set(pod(2)))
	if image, ok := s.Load(canada); !ok || len(image.Facts) != 1 || image.Facts[0].Key != pod(2).Key {
		t.Errorf("Load gives %v, %v", image, ok)
	}
}

func TestAppendGoesOnWithAFileThatWasNotLoaded(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, presentID)
	mustAppend(t, s, at(1), model.Set(pod(1)))
	closeStore(t, s)
	s, _ = open(t, dir, presentID)
	mustAppend(t, s, at(2), model.Set(pod(2)))
	if image, ok := s.Load(canada); !ok || len(image.Facts) != 2 {
		t.Errorf("Load gives %v, %v", image, ok)
	}
}

func TestTheFolderIsOfOneAgent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "for us")
	s, _ := open(t, dir, presentID)
	logger, _ := logtest.NewNullLogger()
	_, err := Open(dir, testLimit, logrus.NewEntry(logger))
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second Open gives %v", err)
	}
	closeStore(t, s)
	open(t, dir, presentID)
}

func TestOnlyOurAccountCanRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s, _ := open(t, dir, presentID)
	mustAppend(t, s, at(1), model.Set(pod(1)))
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, canada+".store"): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("the mode of %s is %v, want %v (%v)", path, info.Mode(), want, err)
		}
	}
}

func TestOpenRefusesWhatIsNoFolderOfOurs(t *testing.T) {
	dir := t.TempDir()
	link, file, foreign := filepath.Join(dir, "link"), filepath.Join(dir, "file"), filepath.Join(dir, "foreign")
	for _, err := range []error{
		os.Symlink(t.TempDir(), link), os.WriteFile(file, nil, 0o600), os.Mkdir(foreign, 0o700), os.Chown(foreign, 1234, 1234),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	logger, _ := logtest.NewNullLogger()
	for _, path := range []string{link, file, foreign} {
		if s, err := Open(path, testLimit, logrus.NewEntry(logger)); err == nil {
			t.Errorf("%s is taken", path)
			closeStore(t, s)
		}
	}
	if _, err := Open(dir, 0, logrus.NewEntry(logger)); err == nil {
		t.Error("a limit of 0 is taken")
	}
}

func TestWhatARewriteLeftIsRemoved(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, canada+".tmp")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := open(t, dir, presentID)
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
	if got := s.Clusters(); len(got) > 0 {
		t.Errorf("Clusters gives %q", got)
	}
}

func TestNamesThatAreNoNamesOfClustersHaveNoFile_1_1(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, filepath.Join(dir, "store"), presentID)
	for _, name := range []string{"", ".", "..", "../x", "a/b", "A", "a.b", "-a", "a-", "a\x00b", strings.Repeat("a", 64)} {
		if err := s.Append(name, uid(1), at(1), nil); err == nil {
			t.Errorf("Append takes %q", name)
		}
		if err := s.Rewrite(name, uid(1), at(1), noFacts); err == nil {
			t.Errorf("Rewrite takes %q", name)
		}
		if _, ok := s.Load(name); ok || s.NeedsRewrite(name) {
			t.Errorf("Load or NeedsRewrite takes %q", name)
		}
		if err := s.Remove(name); err != nil {
			t.Errorf("there is something to remove of %q: %v", name, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "store")); err != nil || len(left) > 0 {
		t.Errorf("files were made: %v, %v", left, err)
	}
}

func noFacts(func(model.Fact) bool) {}

func endless() iter.Seq[model.Fact] {
	return func(yield func(model.Fact) bool) {
		for i := 0; yield(pod(i)); i++ {
			continue
		}
	}
}

func TestFilesOfDifferentClustersCanBeUsedAtOnce(t *testing.T) {
	s, _ := open(t, t.TempDir(), presentID)
	done := make(chan error)
	for g := range 4 {
		go func() {
			name := fmt.Sprintf("cluster-%d", g)
			var err error
			for i := range 50 {
				p := pod(i)
				p.Key.Cluster = name
				err = errors.Join(err, s.Append(name, uid(g), at(int64(i)), []model.Change{model.Set(p)}))
				if s.NeedsRewrite(name) || i == 25 {
					image, _ := s.Load(name)
					err = errors.Join(err, s.Rewrite(name, uid(g), at(int64(i)), func(yield func(model.Fact) bool) {
						for _, c := range image.Facts {
							if !yield(c.Value) {
								return
							}
						}
					}))
				}
			}
			if image, ok := s.Load(name); !ok || len(image.Facts) != 50 || image.ClusterUID != uid(g) {
				err = errors.Join(err, fmt.Errorf("%s has %d facts, of %s", name, len(image.Facts), image.ClusterUID))
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := s.Clusters(); len(got) != 4 {
		t.Errorf("Clusters gives %q", got)
	}
}

// contentsOf reads a file without a Store.
func contentsOf(t testing.TB, dir string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, canada+".store"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}
