package policy

import (
	"cmp"
	"crypto/sha1" //nolint:gosec // it is the rule by which interfaces are named
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

// NodeFacts are what the node itself and its agent's configuration say. They are
// never changed once they are handed over.
type NodeFacts struct {
	// Interfaces are all pod interfaces that there are, sorted by name.
	Interfaces []model.Interface
	// Grandfathered are those, by name and index, that were there before this
	// agent was first installed.
	Grandfathered []model.Interface
	// Protected and OwnNodeEgress are those of desired.Rules.
	Protected, OwnNodeEgress bool
	// Exceptions are source ranges, by namespace, that pods may send from beside
	// their own addresses (semantics 2.14).
	Exceptions map[string][]netip.Prefix
}

// InterfaceName is the name of the node's end of a pod's link, as Azure CNI gives
// it: "azv" and the first 11 hexadecimal digits of the SHA-1 of
// "<namespace>.<pod>".
func InterfaceName(namespace, pod string) string {
	const digits = 11
	sum := sha1.Sum([]byte(namespace + "." + pod)) //nolint:gosec // as above
	return "azv" + hex.EncodeToString(sum[:])[:digits]
}

// Node takes what is true of the node now.
func (s *Set) Node(n NodeFacts) {
	if !sameFacts(s.facts, n) {
		s.changed()
	}
	s.facts = n
}

func sameFacts(a, b NodeFacts) bool {
	if len(a.Exceptions) != len(b.Exceptions) {
		return false
	}
	for namespace, ranges := range a.Exceptions {
		if other, ok := b.Exceptions[namespace]; !ok || !slices.Equal(ranges, other) {
			return false
		}
	}
	return a.Protected == b.Protected && a.OwnNodeEgress == b.OwnNodeEgress &&
		slices.EqualFunc(a.Interfaces, b.Interfaces, sameInterface) &&
		slices.EqualFunc(a.Grandfathered, b.Grandfathered, sameInterface)
}

func sameInterface(a, b model.Interface) bool {
	return a.Name == b.Name && a.Index == b.Index && slices.Equal(a.Addrs, b.Addrs)
}

// addInterface makes a pod found by the name of its interface. That two pods
// have one name is possible, and tells them apart by their addresses.
func (s *Set) addInterface(p *localPod) {
	pods := append(s.interfaces[p.iface], p)
	slices.SortFunc(pods, comparePods)
	s.interfaces[p.iface] = pods
}

func (s *Set) removeInterface(p *localPod) {
	pods := slices.DeleteFunc(slices.Clone(s.interfaces[p.iface]), func(o *localPod) bool { return o == p })
	if len(pods) == 0 {
		delete(s.interfaces, p.iface)
		return
	}
	s.interfaces[p.iface] = pods
}

func comparePods(a, b *localPod) int { return compareKeys(a.Key, b.Key) }

// join finds whose the interfaces are: of the pod that gives the interface its
// name and has an address that is routed there. Both are needed: by the name
// alone a pod that took the place of another would have its verdicts, by the
// address alone one that took its address.
func (s *Set) join(view index.View) (endpoints []desired.Endpoint, unknown []desired.Unknown) {
	joined := make(map[*localPod]struct{}, len(s.facts.Interfaces))
	for _, i := range s.facts.Interfaces {
		p := s.podBehind(i)
		if p == nil {
			unknown = append(unknown, desired.Unknown{Interface: i, Grandfathered: s.grandfathered(i)})
			continue
		}
		joined[p] = struct{}{}
		endpoints = append(endpoints, desired.Endpoint{
			Interface: i, Pod: p.Key, UID: p.UID, Addrs: owned(view, p),
			Ingress: p.sides[ingress], Egress: p.sides[egress],
		})
	}
	s.waiting = s.waiting[:0:0]
	for _, pods := range s.interfaces {
		for _, p := range pods {
			if _, ok := joined[p]; !ok {
				s.waiting = append(s.waiting, p.Key)
			}
		}
	}
	slices.SortFunc(s.waiting, compareKeys)
	s.interfaceProblems = s.misrouted()
	return endpoints, unknown
}

func (s *Set) podBehind(i model.Interface) *localPod {
	for _, p := range s.interfaces[i.Name] {
		if slices.ContainsFunc(i.Addrs, func(a netip.Addr) bool { return slices.Contains(p.Addresses, a) }) {
			return p
		}
	}
	return nil
}

func (s *Set) grandfathered(i model.Interface) bool {
	return slices.ContainsFunc(s.facts.Grandfathered, func(g model.Interface) bool {
		return g.Name == i.Name && g.Index == i.Index
	})
}

// owned are the addresses that a pod owns by what the API says, sorted.
func owned(view index.View, p *localPod) []netip.Addr {
	e, ok := view.Endpoint(p.Key)
	p.entry = e
	if !ok {
		return nil
	}
	addrs := make([]netip.Addr, 0, len(p.Addresses))
	for _, a := range p.Addresses {
		if e.Owns(a) {
			addrs = append(addrs, a)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// misrouted finds addresses of pods of this node that are routed to interfaces
// of other names, unless the pod of that name claims them too: as long as the
// old pod is not gone, an address that was given to a new one is claimed by both.
func (s *Set) misrouted() []model.Problem {
	claims := make(map[netip.Addr][]*localPod, len(s.interfaces))
	for _, pods := range s.interfaces {
		for _, p := range pods {
			for _, a := range p.Addresses {
				claims[a] = append(claims[a], p)
			}
		}
	}
	var problems []model.Problem
	for _, i := range s.facts.Interfaces {
		for _, a := range i.Addrs {
			pods := claims[a]
			if slices.ContainsFunc(pods, func(p *localPod) bool { return p.iface == i.Name }) {
				continue
			}
			for _, p := range pods {
				problems = append(problems, model.Problem{Kind: model.ProblemInterface, Object: p.Key, Message: fmt.Sprintf(
					"its address %s is routed to the interface %s: expected %s, so that no policy is applied to it there", a, i.Name, p.iface)})
			}
		}
	}
	return problems
}

// exceptions are those of the source check, by interface and prefix.
func (s *Set) exceptions(endpoints []desired.Endpoint) []desired.Exception {
	var exceptions []desired.Exception
	for i := range endpoints {
		for _, prefix := range s.facts.Exceptions[endpoints[i].Pod.Namespace] {
			if prefix.IsValid() && !prefix.Addr().Is4In6() {
				exceptions = append(exceptions, desired.Exception{Interface: endpoints[i].Interface.Name, Prefix: prefix.Masked()})
			}
		}
	}
	slices.SortFunc(exceptions, func(a, b desired.Exception) int {
		return cmp.Or(strings.Compare(a.Interface, b.Interface), a.Prefix.Compare(b.Prefix))
	})
	return slices.Compact(exceptions)
}

// Waiting is the pods of this node that had no interface of their own at the
// last State, sorted: they are starting or, if that lasts, something is wrong.
func (s *Set) Waiting() []model.Key { return s.waiting }
