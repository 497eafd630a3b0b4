package desired

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/model"
)

// Validate tells everything in a State that the comments of its types do not
// allow, as one error of all violations, in canonical order; nil if there is
// none. It looks at each member of each set.
func (s *State) Validate() error {
	var f findings
	if s.Rules == nil {
		f.add("Rules: there are none")
		return f.err()
	}
	s.Rules.validate(&f)
	if s.ReleasedFloor > s.Gen {
		f.add("ReleasedFloor: %d is after Gen, %d", s.ReleasedFloor, s.Gen)
	}
	var inSets findings // a map has no order
	for a, gen := range s.Released.All() {
		inSets.addr(a, "Released")
		if gen <= s.ReleasedFloor || gen > s.Gen {
			inSets.add("Released: %s at %d: want a generation after ReleasedFloor, %d, and not after Gen, %d", a, gen, s.ReleasedFloor, s.Gen)
		}
	}
	for id, members := range s.Sets.All() {
		spec, ok := s.Rules.set(id)
		if !ok || !spec.Dynamic() {
			inSets.add("Sets: %s: there is no set of this name that changes", id)
			continue
		}
		members.validate(spec, &inSets)
	}
	slices.Sort(inSets.texts)
	f.texts = append(f.texts, inSets.texts...)
	for _, spec := range s.Rules.Sets {
		if _, ok := s.Sets.Get(spec.ID); !ok && spec.Dynamic() {
			f.add("Sets: %s: no members, not even none", spec.ID)
		}
	}
	return f.err()
}

func (m Members) validate(spec *SetSpec, f *findings) {
	where := "Sets: " + string(spec.ID)
	if spec.Kind == Addresses && m.Ports.Len() > 0 || spec.Kind == AddressPorts && m.Addrs.Len() > 0 {
		f.add("%s: has members that are not %s", where, spec.Kind)
	}
	for p := range m.All() {
		f.addr(p.Addr(), where)
		if FamilyOf(p.Addr()) != spec.Family {
			f.add("%s: %s is not %s", where, p.Addr(), spec.Family)
		}
		if spec.Kind == AddressPorts && p.Port() == 0 {
			f.add("%s: %s: want a port", where, p)
		}
	}
}

// Validate tells everything in Rules that the comments of its types do not
// allow, as one error of all violations; nil if there is none.
func (r *Rules) Validate() error {
	var f findings
	r.validate(&f)
	return f.err()
}

func (r *Rules) validate(f *findings) {
	v := ruleValidator{findings: f, rules: r, lists: map[*List]bool{}, sides: map[*Side]bool{}, used: map[SetID]bool{}}
	interfaces, pods := map[string]bool{}, map[model.Key]bool{}
	for i := range r.Endpoints {
		e := &r.Endpoints[i]
		where := fmt.Sprintf("Endpoints[%d] (%s)", i, e.Interface.Name)
		f.iface(e.Interface, where, interfaces)
		if i > 0 && r.Endpoints[i-1].Interface.Name >= e.Interface.Name {
			f.add("%s: not sorted by interface", where)
		}
		if e.Pod.Kind != model.KindPod {
			f.add("%s: Pod: %s is no pod", where, e.Pod)
		}
		if pods[e.Pod] {
			f.add("%s: Pod: %s has another interface", where, e.Pod)
		}
		pods[e.Pod] = true
		f.addrs(e.Addrs, where+".Addrs")
		v.side(e.Ingress, where+".Ingress")
		v.side(e.Egress, where+".Egress")
	}
	for i, u := range r.Unknown {
		where := fmt.Sprintf("Unknown[%d] (%s)", i, u.Name)
		f.iface(u.Interface, where, interfaces)
		if i > 0 && r.Unknown[i-1].Name >= u.Name {
			f.add("%s: not sorted by name", where)
		}
	}
	for i, e := range r.Exceptions {
		where := fmt.Sprintf("Exceptions[%d] (%s)", i, e.Interface)
		if e.Interface == "" {
			f.add("%s: no interface", where)
		}
		f.prefix(e.Prefix, where)
		if i > 0 && compareExceptions(r.Exceptions[i-1], e) >= 0 {
			f.add("%s: not sorted by interface and prefix, or there twice", where)
		}
	}
	v.sets()
}

func compareExceptions(a, b Exception) int {
	return cmp.Or(strings.Compare(a.Interface, b.Interface), a.Prefix.Compare(b.Prefix))
}

// findings are violations, in words.
type findings struct{ texts []string }

func (f *findings) add(format string, args ...any) {
	f.texts = append(f.texts, fmt.Sprintf(format, args...))
}

func (f *findings) err() error {
	all := make([]error, len(f.texts))
	for i, text := range f.texts {
		all[i] = errors.New(text)
	}
	return errors.Join(all...)
}

func (f *findings) iface(i model.Interface, where string, seen map[string]bool) {
	switch {
	case i.Name == "":
		f.add("%s: the interface has no name", where)
	case seen[i.Name]:
		f.add("%s: the interface is there twice", where)
	}
	seen[i.Name] = true
	f.addrs(i.Addrs, where+".Interface.Addrs")
}

func (f *findings) addrs(all []netip.Addr, where string) {
	for i, a := range all {
		f.addr(a, where)
		if i > 0 && !all[i-1].Less(a) {
			f.add("%s: %s: not sorted, or there twice", where, a)
		}
	}
}

func (f *findings) addr(a netip.Addr, where string) {
	if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
		f.add("%s: %s: want an address without zone that is not IPv4 mapped into IPv6", where, a)
	}
}

func (f *findings) prefix(p netip.Prefix, where string) {
	if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
		f.add("%s: %s: want a canonical prefix", where, p)
	}
}
