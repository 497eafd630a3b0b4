// Package pset has persistent sets and maps: values that are never changed. An
// edit gives a new one that shares all but O(log n) of its memory with the old
// one, so that to keep an old version costs nothing, and the difference of two
// versions is found at a cost that follows the difference. It is the shape of
// everything large here: address sets, the index, desired state.
//
// The zero values are empty. Any number of goroutines may read one value, and
// derive others from it, without locks. Iteration has no order that means
// anything, and another one in each process.
//
// # Inside
//
// Both are a hash array mapped trie of 32 slots a node. A node has two bitmaps:
// slots that hold an entry, and slots that hold a node below; entries and nodes
// are kept in two slices without gaps. A slot with one key is always an entry
// and never a node, so that equal content has the same shape whatever its
// history was (only keys whose hashes are equal in all bits are in the order of
// their coming). A set of addresses costs 18 to 26 bytes a member, by its size,
// beside the member itself.
//
// The hash is seeded anew in each process: who chooses keys cannot choose their
// place. Keys that collide nevertheless end in one list.
//
// It is pure and may import nothing of this repository.
package pset
