package pset

import (
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// clumsy is a key whose hashes collide: fully, in many bits, or hardly.
type clumsy int

func (c clumsy) Hash(maphash.Seed) uint64 {
	switch c % 4 {
	case 0:
		return 42 // all the same
	case 1:
		return uint64(c) % 3 << 60 // differ in the last four bits only
	case 2:
		return uint64(c) & 31 << 50
	default:
		return uint64(c) * 0x9e3779b97f4a7c15
	}
}

// content is what a map has, and checks that it says so in all ways.
func content[K, V comparable](t testing.TB, m Map[K, V]) map[K]V {
	t.Helper()
	got := map[K]V{}
	for k, v := range m.All() {
		if _, twice := got[k]; twice {
			t.Fatalf("All gives %v twice", k)
		}
		got[k] = v
		if w, ok := m.Get(k); !ok || w != v {
			t.Fatalf("All gives %v = %v, Get %v, %v", k, v, w, ok)
		}
	}
	if m.Len() != len(got) {
		t.Fatalf("Len is %d, All gives %d", m.Len(), len(got))
	}
	if m.root != nil {
		checkShape(t, m.root, 0, true)
	}
	return got
}

// checkShape checks what makes equal content have equal shape.
func checkShape[K, V comparable](t testing.TB, n *node[K, V], shift uint, root bool) {
	t.Helper()
	if !root && n.single() {
		t.Fatal("a node below the root holds one entry alone")
	}
	if len(n.entries) == 0 && len(n.children) == 0 {
		t.Fatal("a node holds nothing")
	}
	if shift >= hashBits {
		if n.leafs != 0 || n.nodes != 0 || len(n.children) != 0 {
			t.Fatal("a list has slots")
		}
		return
	}
	if n.leafs&n.nodes != 0 {
		t.Fatal("a slot holds an entry and a node")
	}
	if rank(n.leafs, 1<<31)+int(n.leafs>>31) != len(n.entries) || rank(n.nodes, 1<<31)+int(n.nodes>>31) != len(n.children) {
		t.Fatal("bitmaps and slices differ in length")
	}
	for _, child := range n.children {
		checkShape(t, child, shift+slotBits, false)
	}
}

// bruteDiff is DiffMap of Go maps.
func bruteDiff[K, V comparable](old, now map[K]V) map[K]MapChange[K, V] {
	changes := map[K]MapChange[K, V]{}
	for k, v := range old {
		if w, ok := now[k]; !ok || w != v {
			changes[k] = MapChange[K, V]{k, v, w, true, ok}
		}
	}
	for k, w := range now {
		if v, ok := old[k]; !ok {
			changes[k] = MapChange[K, V]{k, v, w, false, true}
		}
	}
	return changes
}

func checkDiff[K, V comparable](t testing.TB, old, now Map[K, V], oldMap, nowMap map[K]V) {
	t.Helper()
	got := map[K]MapChange[K, V]{}
	for c := range DiffMap(old, now) {
		if _, twice := got[c.Key]; twice {
			t.Fatalf("DiffMap gives %v twice", c.Key)
		}
		got[c.Key] = c
	}
	if want := bruteDiff(oldMap, nowMap); !maps.Equal(got, want) {
		t.Fatalf("DiffMap: %s", cmp.Diff(want, got))
	}
}

// version is a map as it was, and must stay.
type version[K comparable] struct {
	m    Map[K, int]
	want map[K]int
}

// play applies an operation a byte pair, with what it does checked against a Go
// map, and at the end every version that was noted on the way.
func play[K comparable](t testing.TB, script []byte, key func(int) K) {
	t.Helper()
	now := version[K]{want: map[K]int{}}
	var versions []version[K]
	for ; len(script) >= 3; script = script[3:] {
		op, k, v := script[0]%16, key(int(script[1])), int(script[2]%4)
		switch {
		case op < 6:
			now.m = now.m.With(k, v)
			now.want[k] = v
		case op < 10:
			now.m = now.m.Without(k)
			delete(now.want, k)
		case op < 14:
			now.m = playEdit(t, now, script[1:], key)
		default:
			versions = append(versions, version[K]{now.m, maps.Clone(now.want)})
		}
		if got, ok := now.m.Get(k); ok != contains(now.want, k) || got != now.want[k] {
			t.Fatalf("Get(%v) is %v, %v; want %v", k, got, ok, now.want[k])
		}
	}
	versions = append(versions, now)
	for i, old := range versions {
		if got := content(t, old.m); !maps.Equal(got, old.want) {
			t.Fatalf("version %d: %s", i, cmp.Diff(old.want, got))
		}
		other := versions[i*7%len(versions)]
		checkDiff(t, old.m, other.m, old.want, other.want)
	}
}

func contains[K comparable](m map[K]int, k K) bool {
	_, ok := m[k]
	return ok
}

// playEdit is a batch of up to 40 changes; now.want follows.
func playEdit[K comparable](t testing.TB, now version[K], script []byte, key func(int) K) Map[K, int] {
	t.Helper()
	random := rand.New(rand.NewPCG(uint64(script[0]), uint64(script[1])))
	before := maps.Clone(now.want)
	e := now.m.Edit()
	for range random.IntN(40) {
		k, v := key(random.IntN(256)), random.IntN(4)
		if random.IntN(2) == 0 {
			e.Set(k, v)
			now.want[k] = v
		} else {
			e.Delete(k)
			delete(now.want, k)
		}
		if got, ok := e.Get(k); ok != contains(now.want, k) || got != now.want[k] || e.Len() != len(now.want) {
			t.Fatalf("in an edit Get(%v) is %v, %v and Len %d; want %v and %d", k, got, ok, e.Len(), now.want[k], len(now.want))
		}
	}
	if got := maps.Collect(e.All()); !maps.Equal(got, now.want) {
		t.Fatalf("in an edit: %s", cmp.Diff(now.want, got))
	}
	if got := content(t, now.m); !maps.Equal(got, before) {
		t.Fatalf("an edit changed what it began with: %s", cmp.Diff(before, got))
	}
	return e.Done()
}

func clumsyKey(i int) clumsy { return clumsy(i) }

func address(i int) netip.Addr {
	if i%3 == 0 {
		return netip.AddrFrom16([16]byte{0: 0xfd, 12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
	}
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

type name struct {
	kind uint8
	text string
}

func TestBehavesAsAGoMapInAllItsVersions(t *testing.T) {
	for round := range 60 {
		random := rand.New(rand.NewPCG(1, uint64(round)))
		script := make([]byte, 3*(1+random.IntN(400)))
		for i := range script {
			script[i] = byte(random.Uint32())
		}
		play(t, script, clumsyKey)
		play(t, script, address)
		play(t, script, func(i int) name { return name{uint8(i % 3), fmt.Sprint(i / 3)} })
	}
}

func FuzzMap(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 4, 1, 14, 0, 0, 6, 0, 0, 10, 5, 5, 14, 0, 0, 0, 8, 2})
	f.Add([]byte(strings.Repeat("\x00\x01\x02\x00\x05\x02\x0e..\x0a\x07\x07\x06\x01\x01", 9)))
	f.Fuzz(func(t *testing.T, script []byte) {
		play(t, script[:min(len(script), 3000)], clumsyKey)
		play(t, script[:min(len(script), 3000)], address)
	})
}

func members[K comparable](s Set[K]) map[K]bool {
	got := map[K]bool{}
	for k := range s.All() {
		got[k] = true
	}
	return got
}

func TestSetBehavesAsAGoMap(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	var s Set[netip.Addr]
	want := map[netip.Addr]bool{}
	for range 200 {
		before, wantBefore := s, maps.Clone(want)
		e := s.Edit()
		for range random.IntN(20) {
			k := address(random.IntN(500))
			if random.IntN(3) > 0 {
				e.Add(k)
				want[k] = true
			} else {
				e.Remove(k)
				delete(want, k)
			}
			if e.Has(k) != want[k] || e.Len() != len(want) {
				t.Fatalf("in an edit Has(%v) is %v, Len %d; want %v, %d", k, e.Has(k), e.Len(), want[k], len(want))
			}
		}
		s = e.Done()
		k := address(random.IntN(500))
		s = s.With(k).Without(address(random.IntN(500))).With(k)
		want = members(s)
		if !s.Has(k) || s.Len() != len(want) || !maps.Equal(members(before), wantBefore) {
			t.Fatal("a set is not what was made of it")
		}
		diff := maps.Clone(wantBefore)
		for k, added := range Diff(before, s) {
			if diff[k] == added {
				t.Fatalf("Diff gives %v, %v, which is no change", k, added)
			}
			if added {
				diff[k] = true
			} else {
				delete(diff, k)
			}
		}
		if !maps.Equal(diff, want) {
			t.Fatalf("Diff does not lead from the old to the new set: %s", cmp.Diff(want, diff))
		}
	}
}

func TestEqualContentHasEqualShapeWhateverItsHistory(t *testing.T) {
	const n = 3000
	up, down, churned := Set[netip.Addr]{}.Edit(), Set[netip.Addr]{}, Set[netip.Addr]{}.Edit()
	for i := range n {
		up.Add(address(i))
		down = down.With(address(n - 1 - i))
		churned.Add(address(i * 2 % (2 * n)))
		churned.Add(address(i*2 + 1))
	}
	for i := n; i < 2*n; i++ {
		churned.Remove(address(i))
	}
	a, b, c := up.Done(), down, churned.Done()
	for _, o := range []Set[netip.Addr]{b, c} {
		if !sameShape(a.m.root, o.m.root) {
			t.Error("the shape depends on the history")
		}
		for k := range Diff(a, o) {
			t.Errorf("Diff of equal sets gives %v", k)
		}
	}
}

func sameShape[K, V comparable](a, b *node[K, V]) bool {
	if a.leafs != b.leafs || a.nodes != b.nodes || len(a.entries) != len(b.entries) {
		return false
	}
	for i := range a.entries {
		if a.entries[i] != b.entries[i] {
			return false
		}
	}
	for i := range a.children {
		if !sameShape(a.children[i], b.children[i]) {
			return false
		}
	}
	return true
}

func TestWhatChangesNothingGivesTheSameVersion(t *testing.T) {
	var s Set[int]
	for i := range 1000 {
		s = s.With(i)
	}
	e := s.Edit()
	e.Add(5)
	e.Remove(-5)
	for what, o := range map[string]Set[int]{
		"With a member": s.With(7), "Without another key": s.Without(-7),
		"an edit without effect": e.Done(), "an empty edit": s.Edit().Done(),
	} {
		if !o.Same(s) || o != s {
			t.Errorf("%s gives another version", what)
		}
	}
	m := Map[int, string]{}.With(1, "a").With(2, "b")
	if !m.With(1, "a").Same(m) || m.With(1, "c").Same(m) {
		t.Error("With gives the same version if and only if nothing changes")
	}
	if s.With(-1).Same(s) || s.Without(1).Same(s) {
		t.Error("a changed set is the same version")
	}
	empty := Set[int]{}.With(1).With(33).Without(1).Without(33)
	if empty != (Set[int]{}) || empty.Len() != 0 || empty.Has(1) {
		t.Error("a set from which all is removed is not the zero value")
	}
}

func TestEditorIsOfNoUseAfterDone(t *testing.T) {
	uses := map[string]func(*SetEditor[int]){
		"Add":    func(e *SetEditor[int]) { e.Add(1) },
		"Remove": func(e *SetEditor[int]) { e.Remove(1) },
		"Has":    func(e *SetEditor[int]) { e.Has(1) },
		"Len":    func(e *SetEditor[int]) { e.Len() },
		"Done":   func(e *SetEditor[int]) { e.Done() },
		"All": func(e *SetEditor[int]) {
			for range e.m.All() {
				return
			}
		},
	}
	for what, use := range uses {
		t.Run(what, func(t *testing.T) {
			e := Set[int]{}.With(1).Edit()
			e.Add(2)
			s := e.Done()
			defer func() {
				if recover() == nil {
					t.Errorf("%s after Done does not panic", what)
				}
				if s.Len() != 2 {
					t.Errorf("%s after Done changed the set", what)
				}
			}()
			use(e)
		})
	}
}

func TestIterationsCanEndEarly(t *testing.T) {
	var a, b Map[clumsy, int]
	for i := range 200 {
		a, b = a.With(clumsy(i), 1), b.With(clumsy(i+100), i%2)
	}
	var all []MapChange[clumsy, int]
	for c := range DiffMap(a, b) {
		all = append(all, c)
	}
	for stop := 1; stop < len(all); stop++ {
		n := 0
		for c := range DiffMap(a, b) {
			if c != all[n] {
				t.Fatalf("change %d is %v, was %v", n, c, all[n])
			}
			if n++; n == stop {
				break
			}
		}
	}
	for stop := 1; stop <= a.Len(); stop++ {
		n := 0
		for range a.All() {
			if n++; n == stop {
				break
			}
		}
	}
}

func TestAddressesOfDifferentFormAreDifferentKeys(t *testing.T) {
	v4 := netip.MustParseAddr("10.1.2.3")
	keys := []netip.Addr{
		{},
		v4, netip.AddrFrom16(v4.As16()), netip.MustParseAddr("fe80::1"),
		netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("fe80::1%eth1"), netip.IPv6Unspecified(),
	}
	var s Set[netip.Addr]
	hashes := map[uint64]netip.Addr{}
	for i, k := range keys {
		if s.Has(k) {
			t.Errorf("%v is taken for another form of it", k)
		}
		if s = s.With(k); s.Len() != i+1 || !s.Has(k) {
			t.Errorf("%v is not added", k)
		}
		if o, twice := hashes[hash(k)]; twice && k.IsValid() && o.IsValid() {
			t.Errorf("%v and %v have the same hash", k, o)
		}
		hashes[hash(k)] = k
	}
}

// Run with -race: readers and writers of shared versions need no lock.
func TestVersionsCanBeSharedBetweenGoroutines(t *testing.T) {
	var shared Set[int]
	for i := range 2000 {
		shared = shared.With(i)
	}
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			e := shared.Edit()
			for i := range 500 {
				e.Remove(g*200 + i)
				e.Add(10_000 + i)
			}
			mine := e.Done()
			for i := range 500 {
				mine = mine.With(i).Without(10_000 + i)
			}
			removed := 0
			for k, added := range Diff(shared, mine) {
				if added || !shared.Has(k) {
					t.Errorf("%d was added", k)
				}
				removed++
			}
			if got := len(members(shared)); got != 2000 || mine.Len() != 2000-removed {
				t.Errorf("the shared set has %d members, the derived one %d", got, mine.Len())
			}
		})
	}
	group.Wait()
}

func TestReadingAllocatesNothing(t *testing.T) {
	s := Set[netip.Addr]{}
	m := Map[name, int]{}
	for i := range 1000 {
		s, m = s.With(address(i)), m.With(name{1, fmt.Sprint(i)}, i)
	}
	k := name{1, "77"}
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := m.Get(k); !ok || !s.Has(address(77)) {
			t.Error("not found")
		}
	}); n != 0 {
		t.Errorf("Has and Get allocate %v times", n)
	}
}

func TestAddressesWithPortsAreKeysWithoutAllocation(t *testing.T) {
	var s Set[netip.AddrPort]
	var all []netip.AddrPort
	for _, a := range []string{"10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "fe80::1%eth0", "::"} {
		for port := range uint16(100) {
			all = append(all, netip.AddrPortFrom(netip.MustParseAddr(a), port))
		}
	}
	hashes := map[uint64]bool{}
	for _, p := range all {
		s = s.With(p)
		hashes[hash(p)] = true
	}
	if got := members(s); len(got) != len(all) || len(hashes) != len(all) {
		t.Errorf("%d members and %d hashes of %d", len(got), len(hashes), len(all))
	}
	for _, p := range all {
		if !s.Has(p) {
			t.Errorf("%v is lost", p)
		}
	}
	if n := testing.AllocsPerRun(100, func() { s.Has(all[0]) }); n > 0 {
		t.Errorf("a look-up allocates %v times", n)
	}
}
