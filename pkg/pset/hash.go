package pset

import (
	"encoding/binary"
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
	if a, ok := any(k).(netip.AddrPort); ok {
		return hashAddrPort(seed, a)
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
	return hashForm(seed, maphash.Bytes(seed, b[:]), a)
}

func hashAddrPort(seed maphash.Seed, p netip.AddrPort) uint64 {
	var b [16 + 2]byte
	a := p.Addr().As16()
	binary.BigEndian.PutUint16(b[copy(b[:], a[:]):], p.Port())
	return hashForm(seed, maphash.Bytes(seed, b[:]), p.Addr())
}

// hashForm completes the hash of 16 bytes of an address by what these do not say.
func hashForm(seed maphash.Seed, h uint64, a netip.Addr) uint64 {
	if a.Is4() {
		h = ^h // else it were that of the same address mapped into IPv6
	}
	if zone := a.Zone(); zone != "" {
		h ^= maphash.String(seed, zone)
	}
	return h
}
