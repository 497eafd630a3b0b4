package main

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// TestAKernelWithoutSCTPIsGivenNoSCTPRule: it would refuse every other rule of
// the family with it (2.12).
func TestAKernelWithoutSCTPIsGivenNoSCTPRule(t *testing.T) {
	pod := model.PodKey("west", "demo", "a")
	policy := model.PolicyKey("west", "demo", "p")
	list := desired.NewList([]desired.Rule{{Protocol: model.SCTP, First: 80, Last: 80}})
	state := &desired.State{Gen: 1, Rules: &desired.Rules{Protected: true, Endpoints: []desired.Endpoint{{
		Interface: model.Interface{Name: "azv00000000001", Index: 2, Addrs: []netip.Addr{netip.MustParseAddr("10.1.1.1")}},
		Pod:       pod,
		Ingress: &desired.Side{
			List: list, Origins: [][]desired.Origin{{{Policy: policy, Peer: -1}}}, Policies: []model.Key{policy},
		},
	}}}}
	if err := state.Validate(); err != nil {
		t.Fatal(err)
	}
	for missing, problems := range map[iptables.Feature]bool{"": false, iptables.FeatureSCTP: true} {
		info := iptables.Info{IPv6: true, Missing: slices.DeleteFunc([]iptables.Feature{missing}, func(f iptables.Feature) bool { return f == "" })}
		program := iptables.Compile(state, iptablesConfig(0xff000000, info))
		if got := len(program.Problems) > 0; got != problems {
			t.Errorf("missing %q: Problems %v", missing, program.Problems)
		}
	}
}
