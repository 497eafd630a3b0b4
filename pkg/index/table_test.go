package index

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestRefsAreAMap(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 4))
		var r refs
		want := map[uint32]uint32{}
		for range 4000 {
			// Hashes that share their first bits, so that they meet, some at the end.
			hash := uint32(random.IntN(8))*0x24924900 | uint32(random.IntN(40))
			switch random.IntN(3) {
			case 0:
				r.delete(hash)
				delete(want, hash)
			default:
				ref := uint32(random.IntN(3)) | uint32(random.IntN(2))*severalIDs
				if random.IntN(int(seed)+2) == 0 {
					r.set(hash, ref)
					want[hash] = ref
				}
			}
			if got, ok := r.get(hash); ok != (r.used > 0 && hasKey(want, hash)) || ok && got != want[hash] {
				t.Fatalf("get(%#x) is %d, %t", hash, got, ok)
			}
		}
		got := slices.Sorted(r.all)
		if !slices.Equal(got, slices.Sorted(maps.Values(want))) || r.used != len(want) {
			t.Fatalf("all is %v, used %d; want %v", got, r.used, want)
		}
		for hash := range want {
			if _, ok := r.get(hash); !ok {
				t.Fatalf("%#x is lost", hash)
			}
		}
		for range r.all {
			break // it must be possible
		}
	}
}

func hasKey(m map[uint32]uint32, k uint32) bool {
	_, ok := m[k]
	return ok
}

// TestTableListsWhatHasAValue follows ids that come, go and are used again.
func TestTableListsWhatHasAValue(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 5))
	values := map[uint32]string{} // of the one key, by id
	x := newTable(func(id uint32, _ string) (string, bool) {
		v, ok := values[id]
		return v, ok
	})
	for step := range 20_000 {
		id, value := uint32(random.IntN(300)), string(rune('a'+random.IntN(3)*random.IntN(2)))
		if old, had := values[id]; had {
			x.remove(id, "key", old)
			delete(values, id)
		} else {
			x.add(id, step, "key", value)
			values[id] = value
		}
		if step%10 > 0 {
			continue
		}
		for _, v := range []string{"a", "b", "c", "d"} {
			p := place{key: "key", value: v}
			want := map[uint32]bool{}
			for id, of := range values {
				if of == v {
					want[id] = true
				}
			}
			listed := 0
			for id := range x.having(p) {
				listed++
				delete(want, id)
			}
			if len(want) > 0 {
				t.Fatalf("%q does not list %v", v, want)
			}
			if count := x.count(p); listed > 2*count+shortList {
				t.Fatalf("%q lists %d for %d", v, listed, count)
			}
		}
		if count := x.count(place{key: "key", any: true}); count != len(values) {
			t.Fatalf("%d have the key, counted %d", len(values), count)
		}
	}
	for id, v := range values {
		delete(values, id)
		x.remove(id, "key", v)
	}
	if len(x.keys) > 0 || len(x.free) != len(x.lists) {
		t.Errorf("an empty table keeps %d keys, %d of %d lists", len(x.keys), len(x.lists)-len(x.free), len(x.lists))
	}
}
