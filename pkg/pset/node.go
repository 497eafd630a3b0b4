package pset

import (
	"math/bits"
	"slices"
)

const (
	slotBits = 5 // 32 slots: bitmaps are one word, and paths short
	slotMask = 1<<slotBits - 1
	hashBits = 64
)

// owner marks the nodes that one edit has made, and may change in place. It has
// a size, since all pointers to nothing may be equal.
type owner struct{ _ byte }

// entry has the value first: an empty one then takes no space.
type entry[K, V comparable] struct {
	value V
	key   K
}

// node is a node of the trie. Below the last bits of the hash, where shift is
// hashBits or more, it is a mere list: both bitmaps are zero.
type node[K, V comparable] struct {
	owner *owner // nil: never to be changed
	// leafs are the slots with an entry, nodes those with a node; none is both.
	leafs, nodes uint32
	entries      []entry[K, V]
	children     []*node[K, V]
}

// slot is the bit of a hash at a level.
func slot(hash uint64, shift uint) uint32 { return 1 << (hash >> shift & slotMask) }

// rank is the position of a slot in the slice of those in a bitmap.
func rank(bitmap, bit uint32) int { return bits.OnesCount32(bitmap & (bit - 1)) }

// find gives the entry of a key, nil if there is none.
func (n *node[K, V]) find(k K, h uint64) *entry[K, V] {
	if n == nil {
		return nil
	}
	shift := uint(0)
	for ; shift < hashBits; shift += slotBits {
		bit := slot(h, shift)
		if n.leafs&bit != 0 {
			if e := &n.entries[rank(n.leafs, bit)]; e.key == k {
				return e
			}
			return nil
		}
		if n.nodes&bit == 0 {
			return nil
		}
		n = n.children[rank(n.nodes, bit)]
	}
	if i := n.listed(k); i >= 0 {
		return &n.entries[i]
	}
	return nil
}

// listed is the place of a key in a list, or -1.
func (n *node[K, V]) listed(k K) int {
	return slices.IndexFunc(n.entries, func(e entry[K, V]) bool { return e.key == k })
}

// all calls yield with each entry until it returns false, and then does itself.
func (n *node[K, V]) all(yield func(*entry[K, V]) bool) bool {
	if n == nil {
		return true
	}
	for i := range n.entries {
		if !yield(&n.entries[i]) {
			return false
		}
	}
	for _, child := range n.children {
		if !child.all(yield) {
			return false
		}
	}
	return true
}

// single tells a node that its parent is to hold as an entry.
func (n *node[K, V]) single() bool { return len(n.entries) == 1 && len(n.children) == 0 }
