package policy

import (
	"fmt"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// mostNative is how many blocks of a family one rule may have as matches of
// their own: above, a test of one set costs less than walking them.
const mostNative = 16

// blocks adds the units of a rule's ipBlocks (semantics 2.7): each its own, but
// for many without exceptions, which have one set. What cannot be understood of
// a block leaves it out whole: without an exception it would allow more.
func (r *reader) blocks(peers []model.PolicyPeer, ports []port) {
	native := map[desired.Family][]int{}
	for i, peer := range peers {
		if !peer.Block.IsValid() {
			continue
		}
		f, ok := r.block(i, peer)
		switch {
		case !ok:
		case f.set == nil && f.peer.Block.Bits() > 0:
			native[f.family] = append(native[f.family], i)
		default:
			r.add(unit{peers: []int{i}, ports: ports, forms: []form{f}})
		}
	}
	for _, family := range families() {
		indexes := native[family]
		if len(indexes) > mostNative {
			r.add(unit{peers: indexes, ports: ports, forms: []form{common(family, peers, indexes)}})
			continue
		}
		for _, i := range indexes {
			block := peers[i].Block.Masked()
			r.add(unit{peers: []int{i}, ports: ports, forms: []form{{family: family, peer: desired.Peer{Block: block}}}})
		}
	}
}

// common is one set of many blocks.
func common(family desired.Family, peers []model.PolicyPeer, indexes []int) form {
	networks := make([]desired.Network, len(indexes))
	for i, at := range indexes {
		networks[i].Prefix = peers[at].Block.Masked()
	}
	s := networkSet(family, networks)
	return form{family: family, peer: desired.Peer{Set: s.spec.ID}, set: s}
}

// block is the form of one ipBlock.
func (r *reader) block(at int, peer model.PolicyPeer) (form, bool) {
	block := peer.Block.Masked()
	field := fmt.Sprintf(".%s[%d].ipBlock", r.direction.peersField(), at)
	if block.Addr().Is4In6() {
		r.problem(field, "%s matches nothing: expected an IPv4 range in its own form", block)
		return form{}, false
	}
	f := form{family: desired.FamilyOf(block.Addr())}
	var excepts []desired.Network
	for i, except := range peer.Except {
		except = except.Masked()
		field := fmt.Sprintf("%s.except[%d]", field, i)
		switch {
		case !except.IsValid() || except.Addr().Is4In6():
			r.problem(field, "cannot be read, so that the ipBlock matches nothing: expected an address range inside %s", block)
			return form{}, false
		case except.Bits() <= block.Bits() && except.Overlaps(block):
			r.problem(field, "%s leaves nothing of the ipBlock: expected an address range inside %s", except, block)
			return form{}, false
		case !except.Overlaps(block):
			r.problem(field, "%s has no effect: expected an address range inside %s", except, block)
		default:
			excepts = append(excepts, desired.Network{Prefix: except, Except: true})
		}
	}
	switch {
	case len(excepts) == 0:
		f.peer.Block = block
		return f, true
	case block.Bits() == 0:
		// The kernel's sets have no range of length 0: all that is not in the
		// set of the exceptions.
		for i := range excepts {
			excepts[i].Except = false
		}
		f.peer.Not = true
	default:
		excepts = append(excepts, desired.Network{Prefix: block})
	}
	f.set = networkSet(f.family, excepts)
	f.peer.Set = f.set.spec.ID
	return f, true
}

func networkSet(family desired.Family, networks []desired.Network) *set {
	return &set{spec: desired.NewNetworks(family, networks)}
}
