package pset

import (
	"hash/maphash"
	"net/netip"
)

// seed is one for the whole process: tries that are to be compared, which is
// any two of them, must have their keys in the same places.
var seed = maphash.MakeSeed()

// Hasher is for keys that hold pointers other than strings: package maphash
// would move each of them to the heap to hash it. It is optional and must agree
// with ==. Anything that the other side may choose has to go through seed.
type Hasher interface {
	Hash(seed maphash.Seed) uint64
}

// hash asks for the method of the zero key, not of k: k would escape.
func hash[K comparable](k K) uint64 {
	if a, ok := any(k).(netip.Addr); ok {
		return HashAddr(seed, a)
	}
	var zero K
	if _, ok := any(zero).(Hasher); ok {
		return hashOwn(k)
	}
	return maphash.Comparable(seed, k)
}

func hashOwn[K comparable](k K) uint64 {
	h, ok := any(k).(Hasher)
	if !ok { // a nil interface as the zero key does not say what others are
		return maphash.Comparable(seed, k)
	}
	return h.Hash(seed)
}

// HashAddr is the hash of an address, for the Hash method of keys that have one.
func HashAddr(seed maphash.Seed, a netip.Addr) uint64 {
	b := a.As16()
	h := maphash.Bytes(seed, b[:])
	if a.Is4() {
		h = ^h // else it were that of the same address mapped into IPv6
	}
	if zone := a.Zone(); zone != "" {
		h ^= maphash.String(seed, zone)
	}
	return h
}
