package dataplanetest

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// longestSet is IPSET_MAXNAMELEN without the ending zero.
const longestSet = 31

// set has its elements by what tells them apart for the kernel: nomatch is a
// property of a network, not a part of its key.
type set struct {
	kind     iptables.SetType
	family   desired.Family
	elements map[iptables.Element]bool // nomatch
}

func (s *set) header(name string) iptables.SetHeader {
	return iptables.SetHeader{Name: name, Type: s.kind, Family: s.family, Size: len(s.elements)}
}

func (s *set) list() []iptables.Element {
	l := make([]iptables.Element, 0, len(s.elements))
	for e, nomatch := range s.elements {
		e.NoMatch = nomatch
		l = append(l, e)
	}
	slices.SortFunc(l, func(a, b iptables.Element) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Bits, b.Bits),
			cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	return l
}

// dimension is how many directions a match on the set has to give.
func (s *set) dimension() int {
	if s.kind == iptables.HashIPPort {
		return 2
	}
	return 1
}

// holds is whether the set matches, as the kernel's test does: in a set of
// networks the longest one decides.
func (s *set) holds(a netip.Addr, p model.Protocol, port uint16) bool {
	switch s.kind {
	case iptables.HashIP:
		_, ok := s.elements[iptables.Element{Addr: a}]
		return ok
	case iptables.HashIPPort:
		_, ok := s.elements[iptables.Element{Addr: a, Protocol: p, Port: port}]
		return ok
	}
	for bits := a.BitLen(); bits > 0; bits-- {
		network, err := a.Prefix(bits)
		if err != nil {
			return false
		}
		if nomatch, ok := s.elements[iptables.Element{Addr: network.Addr(), Bits: uint8(bits)}]; ok {
			return !nomatch
		}
	}
	return false
}

// key is the element as the set keeps it, or why the kernel refuses it.
func (s *set) key(e iptables.Element) (iptables.Element, error) {
	if !e.Addr.IsValid() || desired.FamilyOf(e.Addr) != s.family || e.Addr.Zone() != "" || e.Addr.Is4In6() {
		return e, fmt.Errorf("element %+v is not of the set's family", e)
	}
	switch s.kind {
	case iptables.HashNet:
		if e.Bits == 0 || int(e.Bits) > e.Addr.BitLen() || e.Port != 0 || e.Protocol != 0 {
			return e, fmt.Errorf("element %+v is no network that hash:net takes", e)
		}
		p, err := e.Addr.Prefix(int(e.Bits))
		if err != nil {
			return e, err
		}
		return iptables.Element{Addr: p.Addr(), Bits: e.Bits}, nil
	case iptables.HashIPPort:
		if e.Protocol == 0 || e.Bits != 0 || e.NoMatch || e.Addr.IsUnspecified() {
			return e, fmt.Errorf("element %+v is no address with a port", e)
		}
	default:
		if e.Protocol != 0 || e.Port != 0 || e.Bits != 0 || e.NoMatch || e.Addr.IsUnspecified() {
			return e, fmt.Errorf("element %+v is no plain address", e)
		}
	}
	return e, nil
}

func describe(changes []iptables.SetChange) string {
	var b strings.Builder
	fmt.Fprintf(&b, "change of %d", len(changes))
	for i, c := range changes {
		if i == 20 {
			b.WriteString(" …")
			break
		}
		op := [...]string{"create", "destroy", "add", "delete"}[c.Op]
		fmt.Fprintf(&b, "; %s %s", op, c.Set.Name)
	}
	return b.String()
}

// changeSet does a change, an element a step, while there are steps left.
func (k *Kernel) changeSet(c iptables.SetChange, most *int) error {
	if !isOurs(c.Set.Name) {
		return k.do("", func() error { return k.violation("a change of the foreign set %s", c.Set.Name) })
	}
	switch c.Op {
	case iptables.CreateSet:
		return k.step(most, "create set "+c.Set.Name, func() error { return k.createSet(c.Set) })
	case iptables.DestroySet:
		return k.step(most, "destroy set "+c.Set.Name, func() error { return k.destroySet(c.Set.Name) })
	case iptables.AddElements, iptables.DeleteElements:
		return k.changeElements(c, most)
	}
	return fmt.Errorf("unknown operation %d", c.Op)
}

func (k *Kernel) step(most *int, operation string, f func() error) error {
	if *most == 0 {
		return errCutShort
	}
	*most--
	return k.do(operation, func() error {
		k.note("  %s", operation)
		return f()
	})
}

func (k *Kernel) createSet(h iptables.SetHeader) error {
	if len(h.Name) > longestSet {
		return fmt.Errorf("the name has %d characters, at most %d are possible", len(h.Name), longestSet)
	}
	switch h.Type {
	case iptables.HashIP, iptables.HashIPPort, iptables.HashNet:
	default:
		return fmt.Errorf("the kernel has no set type %q", h.Type)
	}
	if h.Family != desired.IPv4 && h.Family != desired.IPv6 {
		return errors.New("a set has the family IPv4 or IPv6")
	}
	if old := k.sets[h.Name]; old != nil {
		if old.kind != h.Type || old.family != h.Family {
			return iptables.ErrSetKind
		}
		return nil
	}
	k.sets[h.Name] = &set{kind: h.Type, family: h.Family, elements: map[iptables.Element]bool{}}
	return nil
}

func (k *Kernel) destroySet(name string) error {
	if k.sets[name] == nil {
		return nil
	}
	for _, fam := range k.families {
		if where := fam.uses(name); where != "" {
			return fmt.Errorf("%w: %s", iptables.ErrSetUsed, where)
		}
	}
	delete(k.sets, name)
	return nil
}

func (k *Kernel) changeElements(c iptables.SetChange, most *int) error {
	k.mu.Lock()
	s := k.sets[c.Set.Name]
	k.mu.Unlock()
	if s == nil {
		return iptables.ErrNoSet
	}
	if c.Elements == nil {
		return nil
	}
	for e := range c.Elements {
		verb := "add"
		if c.Op == iptables.DeleteElements {
			verb = "delete"
		}
		operation := fmt.Sprintf("%s %s: %v", verb, c.Set.Name, e)
		err := k.step(most, operation, func() error {
			key, err := s.key(e)
			switch {
			case err != nil:
				return err
			case c.Op == iptables.AddElements:
				s.elements[key] = e.NoMatch
			default:
				delete(s.elements, key)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
