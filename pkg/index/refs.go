package index

// refs is a map of hashes to references, neither of which is more than 32 bits:
// a hash table with linear probing, which takes less time and space than a Go
// map, since there are as many entries as endpoints have labels. The zero value
// is empty.
type refs struct {
	// slots are in the order of hashes, but for what had to move up: of any
	// number, so that it need not double to grow.
	slots []refSlot
	used  int
}

type refSlot struct {
	hash uint32
	ref  uint32 // plus one; 0: not used
}

// leastRefs is the size to begin with: mostly a key has few values.
const leastRefs = 4

// home is where the search for a hash begins.
func (r *refs) home(hash uint32) int { return int(uint64(hash) * uint64(len(r.slots)) >> 32) }

// after is the slot that follows.
func (r *refs) after(i int) int {
	if i++; i < len(r.slots) {
		return i
	}
	return 0
}

// get is the reference of a hash, and whether there is one.
func (r *refs) get(hash uint32) (uint32, bool) {
	if r.used == 0 {
		return 0, false
	}
	s := r.slots[r.at(hash)]
	return s.ref - 1, s.ref != 0
}

// at is the slot of a hash, or the free one where it belongs.
func (r *refs) at(hash uint32) int {
	i := r.home(hash)
	for r.slots[i].ref != 0 && r.slots[i].hash != hash {
		i = r.after(i)
	}
	return i
}

func (r *refs) set(hash, ref uint32) {
	if size := len(r.slots); 5*(r.used+1) > 4*size { // fuller ones are slow to search
		r.resize(max(leastRefs, size+size/2+1))
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
	hole := r.at(hash)
	if r.slots[hole].ref == 0 {
		return
	}
	// What follows without a gap moves into the hole, unless that is before the
	// place where its search begins.
	for i := r.after(hole); r.slots[i].ref != 0; i = r.after(i) {
		if r.distance(r.home(r.slots[i].hash), i) >= r.distance(hole, i) {
			r.slots[hole] = r.slots[i]
			hole = i
		}
	}
	r.slots[hole] = refSlot{}
	if r.used--; len(r.slots) > leastRefs && 3*r.used < len(r.slots) {
		r.resize(max(leastRefs, len(r.slots)/2))
	}
}

// distance is how many slots after from the slot to is.
func (r *refs) distance(from, to int) int {
	if to < from {
		to += len(r.slots)
	}
	return to - from
}

// all gives the references.
func (r *refs) all(yield func(uint32) bool) {
	for _, s := range r.slots {
		if s.ref != 0 && !yield(s.ref-1) {
			return
		}
	}
}
