package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/model"
	"golang.org/x/sys/unix"
)

// fill makes the disk of a store take so many more bytes, and then none.
func fill(s *Store, room int) {
	s.disk.writeAt = func(f *os.File, b []byte, at int64) (int, error) {
		n, err := f.WriteAt(b[:min(room, len(b))], at)
		room -= n
		if err == nil && n < len(b) {
			err = unix.ENOSPC
		}
		return n, err
	}
}

func TestFullDiskLosesNothingThatWasAccepted(t *testing.T) {
	for room := 0; room < 200; room += 3 {
		dir := t.TempDir()
		s, _ := open(t, dir, presentID)
		mustAppend(t, s, at(1), model.Set(pod(1)), model.Set(pod(2)))
		before := contentsOf(t, dir)
		fill(s, room)
		err := s.Append(canada, uid(1), at(2), []model.Change{model.Gone(pod(1).Key)})
		if err == nil {
			if room < 40 {
				t.Fatalf("room for %d bytes is enough", room)
			}
			continue
		}
		if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), canada) {
			t.Fatalf("the error is %v", err)
		}
		if got := contentsOf(t, dir); string(got) != string(before) {
			t.Fatal("the file is not what it was before")
		}
		if err := s.Append(canada, uid(1), at(3), []model.Change{model.Set(pod(3))}); err == nil {
			t.Fatal("a full disk takes more")
		}
		s.disk = realDisk() // there is room again
		mustAppend(t, s, at(4), model.Set(pod(4)))
		image, ok := s.Load(canada)
		want := byKey(t, sets([]model.Fact{pod(2), pod(3), pod(4)}))
		if !ok || !image.LastContact.Equal(at(4)) || diffFacts(t, want, image.Facts) != "" {
			t.Fatalf("what was missed is not there: %v, %v", image, ok)
		}
	}
}

func TestTooMuchMissedNeedsARewrite(t *testing.T) {
	s, _ := open(t, t.TempDir(), presentID)
	now := at(0)
	mustAppend(t, s, at(1), model.Set(pod(1)))
	fill(s, 0)
	s.disk.now = func() time.Time { return now }
	many := make([]model.Change, maxMissed+1)
	for i := range many {
		many[i] = model.Set(pod(i))
	}
	if err := s.Append(canada, uid(1), at(2), many); err == nil || !s.NeedsRewrite(canada) {
		t.Fatalf("the error is %v, and no Rewrite is needed", err)
	}
	if err := s.Rewrite(canada, uid(1), at(3), slices.Values(facts())); !errors.Is(err, unix.ENOSPC) || s.NeedsRewrite(canada) {
		t.Fatalf("a Rewrite that failed (%v) is to be done again at once", err)
	}
	fill(s, 1<<20)
	if err := s.Append(canada, uid(1), at(4), nil); err == nil {
		t.Fatal("an Append succeeds although changes are missing")
	}
	if now = now.Add(firstPause); !s.NeedsRewrite(canada) {
		t.Fatal("a Rewrite that failed is never to be done again")
	}
	if err := s.Rewrite(canada, uid(1), at(5), slices.Values(facts())); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, at(6))
	if image, ok := s.Load(canada); !ok || len(image.Facts) != len(facts()) || !image.LastContact.Equal(at(6)) {
		t.Errorf("Load gives %d facts, %v", len(image.Facts), ok)
	}
}

func TestADiskThatCannotEvenCutBackLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, presentID)
	mustAppend(t, s, at(1), model.Set(pod(1)))
	fill(s, 10)
	s.disk.truncate = func(*os.File, int64) error { return unix.EIO }
	if err := s.Append(canada, uid(1), at(2), []model.Change{model.Set(pod(2))}); !errors.Is(err, unix.EIO) {
		t.Errorf("the error is %v", err)
	}
	checkUnusable(t, s, dir)
}

// checkUnusable: no file, no Append, until a Rewrite.
func checkUnusable(t *testing.T, s *Store, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	s.disk = realDisk()
	if err := s.Append(canada, uid(1), at(3), []model.Change{model.Set(pod(3))}); err == nil {
		t.Error("an Append to half of the truth is taken")
	}
	if err := s.Rewrite(canada, uid(1), at(4), slices.Values(facts())); err != nil {
		t.Error(err)
	}
	mustAppend(t, s, at(5), model.Set(pod(3)))
	if image, ok := s.Load(canada); !ok || len(image.Facts) != len(facts())+1 {
		t.Errorf("Load gives %v, %v", image, ok)
	}
}

func TestAppendPastTheLimitLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, presentID)
	mustAppend(t, s, at(1), model.Set(pod(1)))
	s.limit = int64(len(contentsOf(t, dir))) + 100
	many := []model.Change{model.Set(pod(2)), model.Set(pod(3)), model.Set(pod(4))}
	if err := s.Append(canada, uid(1), at(2), many); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), canada) {
		t.Errorf("the error is %v", err)
	}
	if !s.NeedsRewrite(canada) {
		t.Error("no Rewrite is needed")
	}
	s.limit = testLimit
	checkUnusable(t, s, dir)
}

func TestRewritePastTheLimitEndsAndLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, presentID)
	mustAppend(t, s, at(1), model.Set(pod(1)))
	if err := s.Rewrite(canada, uid(1), at(2), endless()); !errors.Is(err, ErrTooLarge) {
		t.Errorf("the error is %v", err)
	}
	checkUnusable(t, s, dir)
}

func TestAppendOfWhatLoadWouldRefuseLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, presentID)
	mustAppend(t, s, at(1), model.Set(pod(1)))
	foreign := pod(2)
	foreign.Key.Cluster = "europe"
	err := s.Append(canada, uid(1), at(2), []model.Change{model.Set(foreign)})
	if err == nil || !strings.Contains(err.Error(), foreign.Key.String()) {
		t.Errorf("the error is %v", err)
	}
	checkUnusable(t, s, dir)
}

func TestARewriteThatFailsLeavesTheOldFile(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, presentID)
	mustAppend(t, s, at(1), model.Set(pod(1)))
	faults := map[string]func(){
		"writing": func() { fill(s, 50) },
		"syncing": func() { s.disk.sync = func(*os.File) error { return unix.EIO } },
	}
	for name, fault := range faults {
		fault()
		if err := s.Rewrite(canada, uid(1), at(9), slices.Values(facts())); err == nil {
			t.Errorf("%s fails, Rewrite does not", name)
		}
		s.disk = realDisk()
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("%s: left are %v, %v", name, left, err)
		}
	}
	mustAppend(t, s, at(2), model.Set(pod(2)))
	if image, ok := s.Load(canada); !ok || len(image.Facts) != 2 {
		t.Errorf("Load gives %v, %v", image, ok)
	}
}

func TestARewriteThatFailsForAnotherUIDIsNotGoneOnWith(t *testing.T) {
	s, _ := open(t, t.TempDir(), presentID)
	mustAppend(t, s, at(1), model.Set(pod(1)))
	fill(s, 50)
	if err := s.Rewrite(canada, uid(2), at(2), slices.Values(facts())); err == nil {
		t.Fatal("a full disk takes it")
	}
	s.disk = realDisk()
	if err := s.Append(canada, uid(2), at(3), []model.Change{model.Set(pod(3))}); err == nil {
		t.Error("an Append to half of the truth is taken")
	}
}

func TestARewriteIsDueWhenMoreIsAppendedThanTheImageHas(t *testing.T) {
	s, _ := open(t, t.TempDir(), presentID)
	if s.NeedsRewrite(canada) {
		t.Error("of nothing")
	}
	var image []model.Fact
	for i := range 15_000 {
		image = append(image, pod(i))
	}
	if err := s.Rewrite(canada, uid(1), at(1), slices.Values(image)); err != nil {
		t.Fatal(err)
	}
	size := s.files[canada].image
	if size < slack || s.limit < 4*size {
		t.Fatalf("the image has %d bytes", size)
	}
	for i := 0; s.files[canada].size < 2*size; i += 1000 {
		if s.NeedsRewrite(canada) {
			t.Fatalf("it is due when %d bytes follow %d", s.files[canada].size-size, size)
		}
		mustAppend(t, s, at(2), sets(image[i%15_000:i%15_000+1000])...)
	}
	mustAppend(t, s, at(2), sets(image[:1000])...)
	if !s.NeedsRewrite(canada) {
		t.Error("it is not due")
	}
	s.limit = size + 3*slack // nearly full: it is due earlier
	if err := s.Rewrite(canada, uid(1), at(1), slices.Values(image)); err != nil {
		t.Fatal(err)
	}
	for s.files[canada].size-size <= slack+slack/2 {
		mustAppend(t, s, at(2), sets(image[:1000])...)
	}
	if !s.NeedsRewrite(canada) {
		t.Error("it is not due although the limit is near")
	}
}

const (
	childFolder = "OVERLAND_TEST_STORE_FOLDER"
	childMode   = "OVERLAND_TEST_STORE_MODE"
)

// TestMain lets the test run itself as the agent that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		if err := child(dir, os.Getenv(childMode) == "rewrite"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// step is the changes of one step of a child: what is true after it follows.
func step(i int) []model.Change {
	changes := []model.Change{model.Set(pod(i)), model.Gone(model.PodKey(canada, "shop", fmt.Sprintf("cart-%05d", i-10)))}
	if i%20 == 0 { // a batch of several records
		for j := range changesARecord {
			p := pod(j)
			p.Key.Name, p.Node = fmt.Sprintf("many-%d", j), strconv.Itoa(i)
			changes = append(changes, model.Set(p))
		}
	}
	return changes
}

// stateAfter is what is true after all steps up to i.
func stateAfter(i int) map[model.Key]model.Fact {
	all := map[model.Key]model.Fact{}
	for n := max(0, i-30); n <= i; n++ {
		for _, c := range step(n) {
			if c.Value == nil {
				delete(all, c.Key)
			} else {
				all[c.Key] = c.Value
			}
		}
	}
	return all
}

// child appends until it is killed, and says after each step that it is kept.
func child(dir string, rewrite bool) error {
	s, err := Open(dir, DefaultLimit, quiet())
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		if err := s.Append(canada, uid(1), at(int64(i)), step(i)); err != nil {
			return err
		}
		if _, err := fmt.Println(i); err != nil {
			return err
		}
		if rewrite && i%3 == 0 {
			if err := s.Rewrite(canada, uid(1), at(int64(i)), values(stateAfter(i))); err != nil {
				return err
			}
		}
	}
}

func values(all map[model.Key]model.Fact) iter.Seq[model.Fact] {
	return func(yield func(model.Fact) bool) {
		for _, f := range all {
			if !yield(f) {
				return
			}
		}
	}
}

func TestKillLosesNothingThatWasAccepted_3_3(t *testing.T) {
	for _, mode := range []string{"append", "rewrite"} {
		for round := range 5 {
			t.Run(fmt.Sprintf("%s/%d", mode, round), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "store")
				accepted := runAndKill(t, dir, mode, 30+round*37)
				s, err := Open(dir, DefaultLimit, quiet())
				if err != nil {
					t.Fatal(err)
				}
				defer closeStore(t, s)
				image, ok := s.Load(canada)
				if !ok {
					t.Fatal("the file is not usable")
				}
				reached := int(image.LastContact.Sub(at(0)) / time.Second)
				if reached < accepted {
					t.Errorf("step %d was accepted, the file ends with %d", accepted, reached)
				}
				if diff := diffFacts(t, stateAfter(reached), image.Facts); diff != "" {
					t.Errorf("not what was true after step %d: %s", reached, diff)
				}
			})
		}
	}
}

// runAndKill kills a child after some steps, and gives the last step that it said
// it had done.
func runAndKill(t *testing.T, dir, mode string, steps int) int {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^$")
	cmd.Env = append(os.Environ(), childFolder+"="+dir, childMode+"="+mode)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	accepted, killed := -1, false
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if accepted, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
			t.Fatal(err)
		}
		if accepted >= steps && !killed {
			killed = true
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return accepted
}
