package pset

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
)

// Every benchmark has its baseline beside it: a Go map, cloned for each version.

func addresses(n int) []netip.Addr {
	all := make([]netip.Addr, n)
	for i := range all {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 10<<24+uint32(i))
		all[i] = netip.AddrFrom4(b)
	}
	return all
}

// objectKey is as large as model.Key.
type objectKey struct {
	kind                     uint8
	cluster, namespace, name string
}

func objectKeys(n int) []objectKey {
	all := make([]objectKey, n)
	for i := range all {
		all[i] = objectKey{1, "canada", "shop", fmt.Sprintf("cart-7d9c5b8f6d-%05x", i)}
	}
	return all
}

func build[K comparable](keys []K) Set[K] {
	e := Set[K]{}.Edit()
	for _, k := range keys {
		e.Add(k)
	}
	return e.Done()
}

func buildGoMap[K comparable](keys []K) map[K]struct{} {
	m := map[K]struct{}{}
	for _, k := range keys {
		m[k] = struct{}{}
	}
	return m
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// reportBytes reports the memory of what make gives, a member.
func reportBytes[T any](b *testing.B, members int, make func() T) {
	b.Helper()
	before := heap()
	made := make()
	b.ReportMetric((float64(heap())-float64(before))/float64(members), "bytes/member")
	runtime.KeepAlive(made)
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{1_000, 30_000, 60_000, 100_000, 250_000, 1_000_000} {
		keys := addresses(n)
		b.Run(fmt.Sprintf("trie/%d", n), func(b *testing.B) {
			for b.Loop() {
				build(keys)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/member")
			reportBytes(b, n, func() Set[netip.Addr] { return build(keys) })
		})
		b.Run(fmt.Sprintf("gomap/%d", n), func(b *testing.B) {
			for b.Loop() {
				buildGoMap(keys)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/member")
			reportBytes(b, n, func() map[netip.Addr]struct{} { return buildGoMap(keys) })
		})
	}
}

func BenchmarkBuildObjects(b *testing.B) {
	for _, n := range []int{60_000, 100_000, 250_000} {
		keys := objectKeys(n)
		value := new(int)
		makeMap := func() Map[objectKey, *int] {
			e := Map[objectKey, *int]{}.Edit()
			for _, k := range keys {
				e.Set(k, value)
			}
			return e.Done()
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				makeMap()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/member")
			reportBytes(b, n, makeMap)
		})
	}
}

func BenchmarkHas(b *testing.B) {
	const n = 1_000_000
	keys := addresses(n)
	random := rand.Perm(n)
	b.Run("trie", func(b *testing.B) {
		s := build(keys)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			s.Has(keys[random[i%n]])
		}
	})
	b.Run("gomap", func(b *testing.B) {
		m := buildGoMap(keys)
		found := 0
		for i := 0; b.Loop(); i++ {
			if _, ok := m[keys[random[i%n]]]; ok {
				found++
			}
		}
	})
}

func BenchmarkAll(b *testing.B) {
	const n = 1_000_000
	s := build(addresses(n))
	for b.Loop() {
		for range s.All() {
			continue
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/member")
}

// BenchmarkWithWithout is one update of a large set.
func BenchmarkWithWithout(b *testing.B) {
	const n = 1_000_000
	keys := addresses(n)
	random := rand.Perm(n)
	s := build(keys)
	b.Run("trie", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			k := keys[random[i/2%n]]
			if i%2 == 0 {
				s = s.Without(k)
			} else {
				s = s.With(k)
			}
		}
	})
}

// BenchmarkChange is what one change of an endpoint costs: four updates of a set
// of a million, and the difference to the version before.
func BenchmarkChange(b *testing.B) {
	const n = 1_000_000
	keys := addresses(n)
	random := rand.Perm(n)
	b.Run("trie", func(b *testing.B) {
		s := build(keys)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			x, y := keys[random[2*i%n]], keys[random[(2*i+1)%n]]
			now := s.Without(x).Without(y).With(x).Without(keys[random[(2*i+3)%n]])
			for range Diff(s, now) {
				continue
			}
		}
	})
	b.Run("trie-edit", func(b *testing.B) {
		s := build(keys)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			x, y := keys[random[2*i%n]], keys[random[(2*i+1)%n]]
			e := s.Edit()
			e.Remove(x)
			e.Remove(y)
			e.Add(x)
			e.Remove(keys[random[(2*i+3)%n]])
			for range Diff(s, e.Done()) {
				continue
			}
		}
	})
	b.Run("gomap-clone", func(b *testing.B) {
		m := buildGoMap(keys)
		for i := 0; b.Loop(); i++ {
			now := maps.Clone(m)
			delete(now, keys[random[i%n]])
			for k := range m {
				if _, ok := now[k]; !ok {
					break
				}
			}
		}
	})
}

// BenchmarkDiffOfStrangers compares equal sets that share nothing.
func BenchmarkDiffOfStrangers(b *testing.B) {
	const n = 250_000
	keys := addresses(n)
	x, y := build(keys), build(keys)
	for b.Loop() {
		for range Diff(x, y) {
			b.Fatal("they are equal")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/member")
}

// BenchmarkFlood is a set of keys that an attacker chose: addresses of one /64
// in steps that collide in hashes without a seed.
func BenchmarkFlood(b *testing.B) {
	const n = 100_000
	keys := make([]netip.Addr, n)
	for i := range keys {
		a := [16]byte{0: 0xfd}
		binary.BigEndian.PutUint64(a[8:], uint64(i)<<40)
		keys[i] = netip.AddrFrom16(a)
	}
	for b.Loop() {
		build(keys)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/member")
}
