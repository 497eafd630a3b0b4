package store

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/overland-net/overland/pkg/model"
)

type policy struct {
	_               struct{} `cbor:",toarray"`
	UID             []byte
	Generation      int64
	PeerScope       string
	Pods            []requirement
	Ingress, Egress bool
	IngressRules    []rule
	EgressRules     []rule
	Malformed       []string
}

type rule struct {
	_       struct{} `cbor:",toarray"`
	AnyPeer bool
	Peers   []peer
	AnyPort bool
	Ports   []port
}

type peer struct {
	_      struct{} `cbor:",toarray"`
	Block  []byte   // empty or one prefix
	Except []byte
	// An absent selector and an empty one mean different things.
	Pods, Namespaces *[]requirement
}

type requirement struct {
	_        struct{} `cbor:",toarray"`
	Key      string
	Operator model.Operator
	Values   []string
}

func policyToWire(p *model.Policy) *policy {
	return &policy{
		UID: uidToWire(p.UID), Generation: p.Generation, PeerScope: p.PeerScope, Pods: selectorToWire(p.Pods),
		Ingress: p.Ingress, Egress: p.Egress, IngressRules: rulesToWire(p.IngressRules), EgressRules: rulesToWire(p.EgressRules),
		Malformed: p.Malformed,
	}
}

func rulesToWire(rules []model.PolicyRule) []rule {
	var all []rule
	for _, r := range rules {
		w := rule{AnyPeer: r.AnyPeer, AnyPort: r.AnyPort}
		for _, p := range r.Peers {
			peer := peer{Except: prefixesToWire(p.Except), Pods: optionalToWire(p.Pods), Namespaces: optionalToWire(p.Namespaces)}
			if p.Block.IsValid() {
				peer.Block = prefixesToWire([]netip.Prefix{p.Block})
			}
			w.Peers = append(w.Peers, peer)
		}
		for _, p := range r.Ports {
			w.Ports = append(w.Ports, port{Name: p.Name, Protocol: p.Protocol, First: p.First, Last: p.Last})
		}
		all = append(all, w)
	}
	return all
}

func selectorToWire(s model.LabelSelector) []requirement {
	all := make([]requirement, 0, len(s))
	for _, r := range s {
		all = append(all, requirement{Key: r.Key, Operator: r.Operator, Values: r.Values})
	}
	return all
}

func optionalToWire(s *model.LabelSelector) *[]requirement {
	if s == nil {
		return nil
	}
	w := selectorToWire(*s)
	return &w
}

func policyFromWire(key model.Key, w *policy) (*model.Policy, error) {
	p := &model.Policy{
		Key: key, Generation: w.Generation, PeerScope: w.PeerScope,
		Ingress: w.Ingress, Egress: w.Egress, Malformed: orNil(w.Malformed),
	}
	var errs [4]error
	p.UID, errs[0] = uidFromWire(w.UID)
	p.Pods, errs[1] = selectorFromWire(w.Pods)
	p.IngressRules, errs[2] = rulesFromWire(w.IngressRules)
	p.EgressRules, errs[3] = rulesFromWire(w.EgressRules)
	return p, errors.Join(errs[:]...)
}

func rulesFromWire(rules []rule) ([]model.PolicyRule, error) {
	var all []model.PolicyRule
	for _, w := range rules {
		r := model.PolicyRule{AnyPeer: w.AnyPeer, AnyPort: w.AnyPort}
		for _, p := range w.Peers {
			peer, err := peerFromWire(p)
			if err != nil {
				return nil, err
			}
			r.Peers = append(r.Peers, peer)
		}
		for _, p := range w.Ports {
			r.Ports = append(r.Ports, model.PolicyPort{Name: p.Name, Protocol: p.Protocol, First: p.First, Last: p.Last})
		}
		all = append(all, r)
	}
	return all, nil
}

func peerFromWire(w peer) (model.PolicyPeer, error) {
	var p model.PolicyPeer
	blocks, err := prefixesFromWire(w.Block)
	if err != nil {
		return p, err
	}
	if len(blocks) > 1 {
		return p, errAddress
	}
	if len(blocks) == 1 {
		p.Block = blocks[0]
	}
	if p.Except, err = prefixesFromWire(w.Except); err != nil {
		return p, err
	}
	if p.Pods, err = optionalFromWire(w.Pods); err != nil {
		return p, err
	}
	p.Namespaces, err = optionalFromWire(w.Namespaces)
	return p, err
}

func selectorFromWire(w []requirement) (model.LabelSelector, error) {
	var s model.LabelSelector
	for _, r := range w {
		if r.Operator > model.DoesNotExist {
			return nil, fmt.Errorf("operator %d is unknown", r.Operator)
		}
		s = append(s, model.Requirement{Key: r.Key, Operator: r.Operator, Values: orNil(r.Values)})
	}
	return s, nil
}

func optionalFromWire(w *[]requirement) (*model.LabelSelector, error) {
	if w == nil {
		return nil, nil
	}
	s, err := selectorFromWire(*w)
	return &s, err
}

func orNil(s []string) []string {
	if len(s) == 0 {
		return nil
	}
	return s
}
