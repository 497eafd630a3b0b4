package desired

import (
	"net/netip"

	"github.com/overland-net/overland/pkg/model"
)

// Rules is a State without the members of sets that change. It is immutable.
type Rules struct {
	// Endpoints are the pods of this node that policy can be applied to, sorted
	// by Interface: each has an interface of its own.
	Endpoints []Endpoint
	// Unknown are the pod interfaces of which it is not known whose they are,
	// sorted by name.
	Unknown []Unknown
	// Protected: what comes from or goes to a pod interface that is neither an
	// Endpoint's nor grandfathered is dropped, known or not. Else it passes.
	Protected bool
	// OwnNodeEgress: the egress rules of a pod are applied to what it sends to
	// its own node too (semantics 2.8). Else all of that passes.
	OwnNodeEgress bool
	// Exceptions are source ranges that pass the source check beside the
	// addresses routed to the interface (semantics 2.14), sorted by interface
	// and prefix.
	Exceptions []Exception
	// Sets are all sets that rules name, sorted by ID.
	Sets []SetSpec
}

// Endpoint is a pod of this node and its interface.
type Endpoint struct {
	Interface model.Interface
	Pod       model.Key
	UID       model.UID
	// Addrs are those that it owns by what the API says (semantics 1.5), sorted.
	// No rule depends on them: the interface decides.
	Addrs []netip.Addr
	// Ingress and Egress are nil if no policy isolates the pod in that direction.
	Ingress, Egress *Side
}

// Side is what one direction of isolated pods allows: all that matches a rule,
// and nothing else. Pods with equal rules by equal policies share it; pods with
// equal rules share the List.
type Side struct {
	List *List
	// Origins has for each rule of List the parts of policies that it comes
	// from, sorted, at least one.
	Origins [][]Origin
	// Policies are those that isolate the pods in this direction, by name.
	Policies []model.Key
}

// List is rules in canonical order, without duplicates. Order has no meaning.
type List struct {
	// Text is the rules in canonical form, with the version of that form: equal
	// lists have equal texts.
	Text  string
	Rules []Rule
}

// Rule allows what matches all of it. The zero Rule allows everything.
type Rule struct {
	// Family of the packets that it is about; any if Peer is the zero Peer.
	Family Family
	// Protocol by IANA number; 0: all protocols, and no ports then.
	Protocol model.Protocol
	// First to Last are the destination ports, both included; both 0: all.
	First, Last uint16
	Peer        Peer
}

// Peer is the addresses of a Rule's other side: the source of ingress, the
// destination of egress. The zero Peer is any address of any family.
type Peer struct {
	// Set: the address is in it; of kind AddressPorts: the address with the
	// destination port is (then the rule has that protocol and no ports).
	Set SetID
	// Not: the address is not in the Set, which is of kind Networks, and of the
	// rule's family.
	Not bool
	// Block, if valid: the address is in it. There is no Set then. Of length 0:
	// any address of the rule's family.
	Block netip.Prefix
}

// Origin is the part of a policy that a rule comes from.
type Origin struct {
	Policy model.Key
	Rule   int // index in spec.ingress or spec.egress, by the direction
	Peer   int // index in from or to; -1 if there is none
	Port   int // index in ports; -1 if there is none
}

// Unknown is a pod interface without a known pod.
type Unknown struct {
	model.Interface
	// Grandfathered: it was there before this agent was first installed, so that
	// what runs behind it goes on until its pod is known.
	Grandfathered bool
}

// Exception is a source range that an interface may send from.
type Exception struct {
	Interface string
	Prefix    netip.Prefix
}

// Skeleton is what holds after a reboot until the local cluster is known: what
// comes from or goes to a pod interface is dropped.
func Skeleton() *State {
	return &State{Rules: &Rules{Protected: true}}
}
