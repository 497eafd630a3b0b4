package desired

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/pset"
)

// textVersion is that of the form of State.Text and Rules.Text.
const textVersion = "v1"

// Text is the canonical text of the whole value, for people and for tests. What
// is equal has equal texts, however it came about and whatever is shared.
func (s *State) Text() string { return string(s.AppendText(nil)) }

// AppendText appends the canonical text to b.
func (s *State) AppendText(b []byte) []byte {
	b = fmt.Appendf(b, "state %s generation %d\n", textVersion, s.Gen)
	if s.ReleasedFloor != 0 {
		b = fmt.Appendf(b, "released before %d: not known\n", s.ReleasedFloor+1)
	}
	released := slices.Collect(keys(s.Released))
	slices.SortFunc(released, netip.Addr.Compare)
	for _, a := range released {
		gen, _ := s.Released.Get(a)
		b = fmt.Appendf(b, "released %s at %d\n", a, gen)
	}
	b = s.Rules.AppendText(b)
	ids := slices.Sorted(keys(s.Sets))
	for _, id := range ids {
		members, _ := s.Sets.Get(id)
		b = fmt.Appendf(b, "members of %s: %d\n", id, members.Len())
		b = members.appendText(b)
	}
	return b
}

func keys[K, V comparable](m pset.Map[K, V]) func(yield func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m.All() {
			if !yield(k) {
				return
			}
		}
	}
}

func (m Members) appendText(b []byte) []byte {
	for _, a := range slices.SortedFunc(m.Addrs.All(), netip.Addr.Compare) {
		b = fmt.Appendf(b, "  %s\n", a)
	}
	for _, p := range slices.SortedFunc(m.Ports.All(), netip.AddrPort.Compare) {
		b = fmt.Appendf(b, "  %s\n", p)
	}
	return b
}

// Text is the canonical text of the Rules.
func (r *Rules) Text() string { return string(r.AppendText(nil)) }

// AppendText appends the canonical text to b.
func (r *Rules) AppendText(b []byte) []byte {
	b = fmt.Appendf(b, "rules %s\n", textVersion)
	if r.Protected {
		b = append(b, "protected\n"...)
	}
	if r.OwnNodeEgress {
		b = append(b, "own node egress\n"...)
	}
	for i := range r.Endpoints {
		b = r.Endpoints[i].appendText(b)
	}
	for _, u := range r.Unknown {
		b = appendInterface(append(b, "unknown "...), u.Interface)
		if u.Grandfathered {
			b = append(b, "  grandfathered\n"...)
		}
	}
	for _, e := range r.Exceptions {
		b = fmt.Appendf(b, "exception %s from %s\n", e.Interface, e.Prefix)
	}
	for i := range r.Sets {
		b = r.Sets[i].appendText(b)
	}
	return b
}

func (e *Endpoint) appendText(b []byte) []byte {
	b = appendInterface(append(b, "endpoint "...), e.Interface)
	b = fmt.Appendf(b, "  %s", e.Pod)
	if e.UID != (model.UID{}) {
		b = fmt.Appendf(b, " %s", e.UID)
	}
	b = append(b, '\n')
	if len(e.Addrs) > 0 {
		b = fmt.Appendf(b, "  addresses %s\n", join(e.Addrs))
	}
	b = e.Ingress.appendText(b, "ingress")
	return e.Egress.appendText(b, "egress")
}

func appendInterface(b []byte, i model.Interface) []byte {
	b = fmt.Appendf(b, "%s index %d\n", i.Name, i.Index)
	if len(i.Addrs) > 0 {
		b = fmt.Appendf(b, "  routed %s\n", join(i.Addrs))
	}
	return b
}

func join[T fmt.Stringer](all []T) string {
	var b strings.Builder
	for i, one := range all {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(one.String())
	}
	return b.String()
}

func (s *Side) appendText(b []byte, direction string) []byte {
	if s == nil {
		return b
	}
	b = fmt.Appendf(b, "  %s isolated by ", direction)
	for i, p := range s.Policies {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = fmt.Appendf(b, "%s/%s", p.Namespace, p.Name)
	}
	b = append(b, '\n')
	for i, rule := range s.List.Rules {
		b = fmt.Appendf(b, "    %s", rule)
		if i < len(s.Origins) {
			b = fmt.Appendf(b, " <- %s", join(s.Origins[i]))
		}
		b = append(b, '\n')
	}
	return b
}

func (s *SetSpec) appendText(b []byte) []byte {
	b = fmt.Appendf(b, "set %s %s %s", s.ID, s.Family, s.Kind)
	if s.Protocol != 0 {
		b = fmt.Appendf(b, " %s", protocolText(s.Protocol))
	}
	text := s.Text
	if !strconv.CanBackquote(text) { // a line is a line
		text = strconv.Quote(text)
	}
	b = fmt.Appendf(b, ": %s\n", text)
	for _, n := range s.Networks {
		b = fmt.Appendf(b, "  %s\n", n)
	}
	return b
}
