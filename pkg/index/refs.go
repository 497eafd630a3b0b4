package index

// refs is a map of hashes to references, neither of which is more than 32 bits:
// a hash table with linear probing, which takes less time than a Go map, since
// there are as many entries as endpoints have labels. The zero value is empty.
type refs struct {
	slots []refSlot // a power of two; at most three quarters are used
	used  int
}

type refSlot struct {
	hash uint32
	ref  uint32 // plus one; 0: not used
}

// leastRefs is the size to begin with: mostly a key has few values.
const leastRefs = 4

// get is the reference of a hash, and whether there is one.
func (r *refs) get(hash uint32) (uint32, bool) {
	if r.used == 0 {
		return 0, false
	}
	s := r.slots[r.at(hash)]
	return s.ref - 1, s.ref != 0
}

// at is the slot of a hash, or the free one where it belongs.
func (r *refs) at(hash uint32) uint32 {
	mask := uint32(len(r.slots) - 1)
	i := hash & mask
	for r.slots[i].ref != 0 && r.slots[i].hash != hash {
		i = (i + 1) & mask
	}
	return i
}

func (r *refs) set(hash, ref uint32) {
	if 4*(r.used+1) > 3*len(r.slots) {
		r.resize(max(leastRefs, 2*len(r.slots)))
	}
	s := &r.slots[r.at(hash)]
	if s.ref == 0 {
		r.used++
	}
	*s = refSlot{hash, ref + 1}
}

func (r *refs) resize(size int) {
	old := r.slots
	r.slots = make([]refSlot, size)
	for _, s := range old {
		if s.ref != 0 {
			r.slots[r.at(s.hash)] = s
		}
	}
}

// delete removes a hash, if it is there.
func (r *refs) delete(hash uint32) {
	if r.used == 0 {
		return
	}
	mask := uint32(len(r.slots) - 1)
	hole := r.at(hash)
	if r.slots[hole].ref == 0 {
		return
	}
	// What follows without a gap moves into the hole, unless that is before the
	// place where its search begins.
	for i := (hole + 1) & mask; r.slots[i].ref != 0; i = (i + 1) & mask {
		if home := r.slots[i].hash & mask; (i-home)&mask >= (i-hole)&mask {
			r.slots[hole] = r.slots[i]
			hole = i
		}
	}
	r.slots[hole] = refSlot{}
	if r.used--; len(r.slots) > leastRefs && 8*r.used < len(r.slots) {
		r.resize(len(r.slots) / 2)
	}
}

// all gives the references.
func (r *refs) all(yield func(uint32) bool) {
	for _, s := range r.slots {
		if s.ref != 0 && !yield(s.ref-1) {
			return
		}
	}
}
