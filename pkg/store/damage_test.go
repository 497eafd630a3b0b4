package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/overland-net/overland/pkg/model"
)

// history writes an image of two pods and then batches, and gives the file, the
// state after each batch (0: the image) and where in the file it ends.
func history(t testing.TB, boot string) (content []byte, states []map[model.Key]model.Fact, ends []int64) {
	t.Helper()
	dir := t.TempDir()
	s, _ := open(t, dir, boot)
	note := func() {
		image, ok := s.Load(canada)
		if !ok {
			t.Fatal("not readable")
		}
		states = append(states, byKey(t, image.Facts))
		ends = append(ends, int64(len(contentsOf(t, dir))))
	}
	if err := s.Rewrite(canada, uid(1), at(0), func(yield func(model.Fact) bool) { _ = yield(pod(1)) && yield(pod(2)) }); err != nil {
		t.Fatal(err)
	}
	note()
	batches := [][]model.Change{
		{model.Set(pod(3)), model.Gone(pod(1).Key)},
		nil,
		{model.Set(pod(4))},
		{model.Gone(pod(2).Key), model.Gone(pod(4).Key), model.Set(pod(1))},
	}
	for i, changes := range batches {
		mustAppend(t, s, at(int64(i+1)), changes...)
		note()
	}
	return contentsOf(t, dir), states, ends
}

// load puts content into a file and reads it with a new store.
func load(t testing.TB, content []byte, boot string) (Image, bool, []string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, canada+".store")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s, hook := open(t, dir, boot)
	image, ok := s.Load(canada)
	if _, err := os.Stat(path); (err == nil) != ok {
		t.Fatalf("usable: %v, but the file: %v", ok, err)
	}
	lines := warnings(hook)
	if ok {
		// It can be gone on with.
		mustAppend(t, s, at(100), model.Set(pod(9)))
		again, ok := s.Load(canada)
		if !ok || len(again.Facts) != len(image.Facts)+1 || !again.LastContact.Equal(at(100)) {
			t.Fatalf("after another append Load gives %v, %v", again, ok)
		}
	}
	closeStore(t, s)
	return image, ok, lines
}

func TestCutOffAtEveryByte_3_3(t *testing.T) {
	content, states, ends := history(t, presentID)
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(content) {
		last := -1 // the last batch that is whole
		for i, end := range ends {
			if int64(cut) >= end {
				last = i
			}
		}
		whole := last >= 0 && ends[last] == int64(cut)
		for _, boot := range []string{presentID, "a later boot", ""} {
			want := last >= 0 && (whole || boot == presentID)
			found, err := parse(c, bytes.NewReader(content[:cut]), int64(cut), canada, boot)
			if (err == nil) != want {
				t.Fatalf("cut at %d of %v, in %q: %v, usable should be %v", cut, ends, boot, err, want)
			}
			if err == nil {
				if diff := diffFacts(t, states[last], found.facts.sets()); diff != "" || found.contact != toContact(at(int64(last))) {
					t.Fatalf("cut at %d: contact %v, %s", cut, fromContact(found.contact), diff)
				}
			}
			if cut%29 != 0 {
				continue
			}
			image, ok, lines := load(t, content[:cut], boot) // the same with a real file
			if ok != want || (len(lines) == 1) == ok || len(lines) > 1 || ok && len(image.Facts) != len(states[last]) {
				t.Fatalf("cut at %d: usable is %v, warnings are %q", cut, ok, lines)
			}
		}
	}
}

func TestATailThatIsNotWhatWasWrittenDiscards_3_3(t *testing.T) {
	content, _, ends := history(t, presentID)
	other, _, _ := history(t, presentID)
	lost := append(bytes.Clone(content[:ends[2]]), content[ends[3]:]...)
	zeroed := bytes.Clone(content)
	clear(zeroed[ends[3]+5:])
	tests := map[string][]byte{
		"zeroes behind the end":               append(bytes.Clone(content), make([]byte, 100)...),
		"the last page is zero":               zeroed,
		"a record is missing":                 lost,
		"a record comes twice":                append(bytes.Clone(content), content[ends[3]:]...),
		"a record of another file":            append(bytes.Clone(content[:ends[3]]), other[ends[3]:]...),
		"the image alone is of another file":  append(bytes.Clone(other[:ends[0]]), content[ends[0]:]...),
		"an old record follows the new image": append(bytes.Clone(content[:ends[0]]), other[ends[0]:ends[1]]...),
	}
	for name, damaged := range tests {
		t.Run(name, func(t *testing.T) {
			for _, boot := range []string{presentID, "a later boot"} {
				if _, ok, lines := load(t, damaged, boot); ok || len(lines) != 1 {
					t.Errorf("usable is %v, warnings are %q", ok, lines)
				}
			}
		})
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	content, _, _ := history(t, presentID)
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(content) * 8 {
		damaged := bytes.Clone(content)
		damaged[bit/8] ^= 1 << (bit % 8)
		if _, err := parse(c, bytes.NewReader(damaged), int64(len(damaged)), canada, presentID); err == nil {
			t.Fatalf("bit %d of byte %d of %d is flipped, and nobody noticed", bit%8, bit/8, len(content))
		}
	}
	random := rand.New(rand.NewPCG(7, 7))
	for range 5000 {
		damaged := bytes.Clone(content)
		for range 2 + random.IntN(30) {
			damaged[random.IntN(len(damaged))] ^= byte(1 + random.IntN(255))
		}
		if bytes.Equal(damaged, content) {
			continue
		}
		if _, err := parse(c, bytes.NewReader(damaged), int64(len(damaged)), canada, presentID); err == nil {
			t.Fatal("several bytes are changed, and nobody noticed")
		}
	}
}

func TestABootIsWrittenBeforeTheFirstAppendInIt_3_3(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, previousID)
	mustAppend(t, s, at(1), model.Set(pod(1)))
	closeStore(t, s)
	s, _ = open(t, dir, presentID)
	mustAppend(t, s, at(2), model.Set(pod(2)))
	whole := len(contentsOf(t, dir))
	mustAppend(t, s, at(3), model.Set(pod(3)))
	torn := contentsOf(t, dir)[:whole+20]
	if image, ok, lines := load(t, torn, presentID); !ok || len(image.Facts) != 2 {
		t.Errorf("cut off in the present boot: %v, %v, %q", image, ok, lines)
	}
	for _, boot := range []string{previousID, "the next boot"} {
		if _, ok, _ := load(t, torn, boot); ok {
			t.Errorf("cut off in %s: it is used in %s", presentID, boot)
		}
	}
}

func TestHalfABatchIsNone_3_3(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, presentID)
	mustAppend(t, s, at(1), model.Set(pod(1)))
	before := len(contentsOf(t, dir))
	var many []model.Change
	for i := range changesARecord + 1 {
		many = append(many, model.Set(pod(i+2)))
	}
	mustAppend(t, s, at(2), many...)
	content := contentsOf(t, dir)
	f := newFrames(bytes.NewReader(content[before:]), int64(len(content)-before))
	f.chain = chainAt(t, content, int64(before))
	if _, _, err := f.next(); err != nil {
		t.Fatal(err)
	}
	firstRecord := content[:len(content)-int(f.left)] // of two
	if image, ok, _ := load(t, firstRecord, presentID); !ok || len(image.Facts) != 1 {
		t.Errorf("in the same boot: %d facts, %v", len(image.Facts), ok)
	}
	if _, ok, _ := load(t, firstRecord, "a later boot"); ok {
		t.Error("it is used in a later boot")
	}
}

func chainAt(t *testing.T, content []byte, end int64) uint32 {
	t.Helper()
	f := newFrames(bytes.NewReader(content[:end]), end)
	if err := f.magic(); err != nil {
		t.Fatal(err)
	}
	for f.left > 0 {
		if _, _, err := f.next(); err != nil {
			t.Fatal(err)
		}
	}
	return f.chain
}

func TestWhatIsNotOursIsDiscarded_3_3(t *testing.T) {
	content, _, _ := history(t, presentID)
	newer := bytes.Clone(content)
	newer[len(magic)-1]++
	write := func(mode os.FileMode, content []byte) func(path string) error {
		return func(path string) error {
			return errors.Join(os.WriteFile(path, content, 0o600), os.Chmod(path, mode))
		}
	}
	elsewhere := filepath.Join(t.TempDir(), "target")
	tests := []struct {
		name, why string
		make      func(path string) error
	}{
		{"empty", "not a store file", write(0o600, nil)},
		{"something else", "not a store file", write(0o600, []byte("apiVersion: v1\nkind: Config\n"))},
		{"a newer format", "not a store file of this version", write(0o600, newer)},
		{"magic alone", "cut off", write(0o600, []byte(magic))},
		{"others may read it", "its mode is 0640", write(0o640, content)},
		{"others may write it", "its mode is 0602", write(0o602, content)},
		{"of another owner", "owned by uid 1234", func(path string) error {
			return errors.Join(os.WriteFile(path, content, 0o600), os.Chown(path, 1234, 0))
		}},
		{"a symbolic link", "symbolic link", func(path string) error {
			return errors.Join(os.WriteFile(elsewhere, content, 0o600), os.Symlink(elsewhere, path))
		}},
		{"a folder", "directory", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"of another cluster", `it is of cluster \"canada\"`, nil},
		{"too large", "larger than the limit", func(path string) error {
			return errors.Join(os.WriteFile(path, content, 0o600), os.Truncate(path, testLimit+1))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, cluster := t.TempDir(), canada
			if tt.make == nil {
				cluster, tt.make = "europe", write(0o600, content)
			}
			path := filepath.Join(dir, cluster+".store")
			if err := tt.make(path); err != nil {
				t.Fatal(err)
			}
			s, hook := open(t, dir, presentID)
			_, ok := s.Load(cluster)
			lines := warnings(hook)
			if ok || len(lines) != 1 || !strings.Contains(lines[0], tt.why) || !strings.Contains(lines[0], cluster) {
				t.Errorf("usable is %v, the lines are %q, want one that says %q", ok, lines, tt.why)
			}
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is still there: %v", err)
			}
		})
	}
	if _, err := os.Stat(elsewhere); err != nil {
		t.Errorf("what the link points to was touched: %v", err)
	}
}

// forged is a file whose sums are right, with one record of changes.
func forged(t testing.TB, changes []change) []byte {
	t.Helper()
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	w := writer{codec: c, buf: []byte(magic)}
	if err := errors.Join(
		encode(&w, recordHeader, header{Cluster: canada, UID: uidToWire(uid(1)), Boot: presentID}),
		encode(&w, recordImage, batch{}),
		encode(&w, recordBatch, batch{Changes: changes}),
	); err != nil {
		t.Fatal(err)
	}
	return w.buf
}

func TestFactsThatCannotBeDiscard(t *testing.T) {
	good := []byte{4, 10, 0, 0, 1}
	tests := map[string]change{
		"unknown kind":           {Kind: 77, Name: "x"},
		"pod without namespace":  {Kind: model.KindPod, Name: "x"},
		"node with namespace":    {Kind: model.KindNode, Namespace: "a", Name: "x"},
		"no name":                {Kind: model.KindNamespace},
		"a name without end":     {Kind: model.KindNamespace, Name: strings.Repeat("a", maxName+1)},
		"cluster of no name":     {Kind: model.KindCluster, Name: "../x"},
		"a pod that is a policy": {Kind: model.KindPod, Namespace: "a", Name: "x", Policy: &policy{}},
		"a policy that is a pod": {Kind: model.KindPolicy, Namespace: "a", Name: "x", Endpoint: &endpoint{Addresses: good}},
		"two facts":              {Kind: model.KindPod, Namespace: "a", Name: "x", Endpoint: &endpoint{Addresses: good}, Policy: &policy{}},
		"a node without address": {Kind: model.KindNode, Name: "x", Endpoint: &endpoint{}},
		"half an address":        {Kind: model.KindPod, Namespace: "a", Name: "x", Endpoint: &endpoint{Addresses: []byte{4, 10, 0}}},
		"an address of 5 bytes":  {Kind: model.KindPod, Namespace: "a", Name: "x", Endpoint: &endpoint{Addresses: []byte{5, 10, 0, 0, 0, 1}}},
		"a mapped address": {Kind: model.KindPod, Namespace: "a", Name: "x", Endpoint: &endpoint{
			Addresses: append([]byte{16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255}, 10, 0, 0, 1),
		}},
		"labels out of order": {Kind: model.KindNamespace, Name: "x", NamespaceObject: &namespace{Labels: []byte("\x01b\x00\x01a\x00")}},
		"a uid of 3 bytes":    {Kind: model.KindNamespace, Name: "x", NamespaceObject: &namespace{UID: []byte("abc")}},
		"a range of 33 bits":  {Kind: model.KindCluster, Name: canada, Cluster: &cluster{PodCIDRs: append(bytes.Clone(good), 33)}},
		"a range cut off":     {Kind: model.KindCluster, Name: canada, Cluster: &cluster{NodeCIDRs: good}},
		"a range too many": {Kind: model.KindPolicy, Namespace: "a", Name: "x", Policy: &policy{
			IngressRules: []rule{{Peers: []peer{{Block: []byte{4, 10, 0, 0, 0, 8, 4, 11, 0, 0, 0, 8}}}}},
		}},
		"unknown operator": {Kind: model.KindPolicy, Namespace: "a", Name: "x", Policy: &policy{Pods: []requirement{{Key: "a", Operator: 9}}}},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			if _, ok, lines := load(t, forged(t, []change{c}), presentID); ok || len(lines) != 1 || len(lines[0]) > 4*maxName {
				t.Errorf("usable is %v, warnings are %q", ok, lines)
			}
		})
	}
	if _, ok, lines := load(t, forged(t, []change{{Kind: model.KindPod, Namespace: "a", Name: "x", Endpoint: &endpoint{Addresses: good}}}), presentID); !ok {
		t.Errorf("a good one is refused: %q", lines)
	}
}

// FuzzParse gives bytes to the decoder behind right checksums, and as they are.
func FuzzParse(f *testing.F) {
	c, err := newCodec()
	if err != nil {
		f.Fatal(err)
	}
	all, err := wire(canada, sets(facts()))
	if err != nil {
		f.Fatal(err)
	}
	for i := range all {
		body, err := c.enc.Marshal(batch{Contact: 5, Changes: all[i : i+1]})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(recordBatch, body)
	}
	f.Add(recordBootOnly, []byte("\x81\x61x"))
	f.Add(recordPart, []byte("\x80"))
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		if _, err := parse(c, bytes.NewReader(body), int64(len(body)), canada, presentID); err == nil {
			t.Log("a whole file was guessed")
		}
		content := forged(t, nil)
		f := newFrames(bytes.NewReader(content), int64(len(content)))
		w := writer{codec: c, buf: content, chain: chainAtEnd(f)}
		start := len(w.buf)
		w.frame(kind, body)
		found, err := parse(c, bytes.NewReader(w.buf), int64(len(w.buf)), canada, presentID)
		if err != nil || found.cut {
			return
		}
		if found.good != int64(len(w.buf)) || found.good <= int64(start) {
			t.Fatalf("the file is good up to %d of %d", found.good, len(w.buf))
		}
		for _, change := range found.facts.sets() {
			if err := check(canada, change); err != nil {
				t.Fatalf("a fact is taken that cannot be: %v", err)
			}
			if _, err := toWire(change); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func chainAtEnd(f *frames) uint32 {
	if f.magic() != nil {
		return 0
	}
	for {
		if _, _, err := f.next(); err != nil {
			return f.chain
		}
	}
}
