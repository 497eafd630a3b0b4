package equivalence

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
	"github.com/overland-net/overland/test/worlds"
)

// edges are what a node has beside known pods: an interface of which it does not
// know whose it is, and source ranges that pods of a namespace may use.
type edges struct {
	worlds.World
	view
	judged
	unknown                  model.Interface
	grandfathered, protected bool
	excepted                 string // a namespace
}

// Addresses that nothing of a world has, one of each family.
func unknownAddrs() []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{10, 99, 0, 1}), netip.AddrFrom16([16]byte{0: 0xfd, 3: 99, 15: 1})}
}

func exceptedAddrs() []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{172, 30, 1, 2}), netip.AddrFrom16([16]byte{0: 0xfd, 3: 0x30, 15: 2})}
}

func newEdges(seed uint64) (edges, *finding) {
	r := rand.New(rand.NewPCG(seed, 4))
	e := edges{World: worlds.Random(seed, worlds.Small()), grandfathered: r.IntN(2) == 0, protected: r.IntN(3) > 0}
	at := placeOf(e.World, r)
	e.view = viewOf(e.World, at)
	e.unknown = model.Interface{Name: "azv00000000000", Index: 900, Addrs: unknownAddrs()}
	c := e.Cluster(at.cluster)
	e.excepted = c.Namespaces[r.IntN(len(c.Namespaces))].Name
	a, err := newAgent(c, at.node)
	if err != nil {
		return e, &finding{text: err.Error()}
	}
	a.extra = policy.NodeFacts{
		Protected: e.protected, Interfaces: []model.Interface{e.unknown},
		Exceptions: map[string][]netip.Prefix{e.excepted: {
			netip.PrefixFrom(exceptedAddrs()[0], 16).Masked(), netip.PrefixFrom(exceptedAddrs()[1], 48).Masked(),
		}},
	}
	if e.grandfathered {
		a.extra.Grandfathered = []model.Interface{e.unknown}
	}
	changes, err := worlds.Facts(e.World, at.cluster)
	if err != nil {
		return e, &finding{text: err.Error()}
	}
	var found *finding
	e.judged, found = judge(a.learn(e.World, changes))
	return e, found
}

// expect compares one flow with what it should be.
func (e edges) expect(f desired.Flow, want bool, why string) *finding {
	verdict, path := e.state.Verdict(f), e.program.Trace(iptables.Packet{Flow: f})
	if verdict.Allowed == want && path.Allowed == want {
		return nil
	}
	return &finding{text: fmt.Sprintf("%+v\nat %s/%s: expected %v (protected %v, grandfathered %v, exceptions for %s; %s)\nVerdict: %+v\nTrace: %+v\n%s\n%s",
		f, e.cluster, e.node, want, e.protected, e.grandfathered, e.excepted, why, verdict, path, e.World, e.state.Text())}
}

// check tries all pods of the node with the unknown interface, with each other
// from excepted sources, and the unknown interface with the outside.
func (e edges) check() *finding {
	passes := e.grandfathered || !e.protected
	beyond := desired.Flow{Src: unknownAddrs()[0], Dst: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Protocol: model.TCP, SrcPort: 40000, DstPort: 80}
	beyond.From.Interface = e.unknown.Name
	if found := e.expect(beyond, passes, "unknown to outside"); found != nil {
		return found
	}
	beyond.From.Interface, beyond.To.Interface = "", e.unknown.Name
	beyond.Src, beyond.Dst = beyond.Dst, beyond.Src
	if found := e.expect(beyond, passes, "outside to unknown"); found != nil {
		return found
	}
	for _, pod := range e.pods {
		for _, a := range pod.routed {
			if found := e.checkPod(pod, a, passes); found != nil {
				return found
			}
		}
	}
	return nil
}

func (e edges) checkPod(pod podAt, a netip.Addr, passes bool) *finding {
	family := 0
	if a.Is6() {
		family = 1
	}
	here := worlds.End{Kind: worlds.Pod, Cluster: e.cluster, Namespace: pod.Namespace, Name: pod.Name, Addr: a}
	stranger := worlds.End{Addr: unknownAddrs()[family]}
	for _, p := range []worlds.Probe{
		{From: here, To: stranger, Protocol: model.TCP, Port: 80},
		{From: stranger, To: here, Protocol: model.TCP, Port: 80},
	} {
		f, from, to := e.flow(p)
		if from {
			f.To.Interface = e.unknown.Name
		} else {
			f.From.Interface = e.unknown.Name
		}
		answer := worlds.Allowed(e.World, p)
		if found := e.expect(f, passes && allowedAt(answer, from, to), answer.Reason); found != nil {
			return found
		}
	}
	here.Addr = exceptedAddrs()[family]
	p := worlds.Probe{From: here, Protocol: model.TCP, Port: 80}
	for _, other := range e.pods {
		for _, p.To.Addr = range other.routed {
			if p.To.Addr.Is4() != a.Is4() || other.iface == pod.iface {
				continue
			}
			p.To = worlds.End{Kind: worlds.Pod, Cluster: e.cluster, Namespace: other.Namespace, Name: other.Name, Addr: p.To.Addr}
			f, from, to := e.flow(p)
			answer := worlds.Allowed(e.World, p)
			if found := e.expect(f, pod.Namespace == e.excepted && allowedAt(answer, from, to), answer.Reason); found != nil {
				return found
			}
		}
	}
	return nil
}

func TestUnknownInterfacesAndExceptedSources_2_14(t *testing.T) {
	first, n := firstSeed(t), count(t, 50)
	inParallel(n, func(i uint64) bool {
		e, found := newEdges(first + i)
		if found == nil {
			found = e.check()
		}
		if found != nil {
			t.Errorf("world %d: %s", first+i, found.text)
		}
		return found == nil
	})
}
