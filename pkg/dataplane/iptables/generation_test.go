package iptables_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/overland-net/overland/pkg/dataplane/dataplanetest"
	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// lastMoment has a packet on the way between the reset of all marks and the
// rules with another generation: the old rules give its connection their own.
type lastMoment struct {
	*kernel
	packet dataplanetest.Packet
	idle   bool
	resets int
}

func (k *lastMoment) Flows(ctx context.Context, c iptables.FlowChange) (int, error) {
	n, err := k.kernel.Flows(ctx, c)
	if c.All && !k.idle {
		k.resets++
		k.Send(k.packet)
	}
	return n, err
}

// TestAMarkGivenWhileGenerationsComeRoundIsNeverCurrentAgain_2_11: a connection
// whose last packet was in the moment of the reset is idle until its generation
// comes again, and is denied meanwhile.
func TestAMarkGivenWhileGenerationsComeRoundIsNeverCurrentAgain_2_11(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &lastMoment{kernel: newKernel()}
		d := iptables.New(iptables.Config{Mask: 0x3000}, k, quiet()) // generations 1 to 3
		w := &world{rules: desired.Rules{Protected: true}}
		w.pod("aaaaaaaaaa1", nil, nil, "10.1.0.1")
		w.pod("aaaaaaaaaa2", nil, nil, "10.1.0.2")
		web := block("10.2.0.0/16")
		k.packet = dataplanetest.Packet{
			In: "eth0", Out: "azvaaaaaaaaaa1", Src: netip.MustParseAddr("10.2.0.1"), Dst: netip.MustParseAddr("10.1.0.1"),
			Protocol: model.TCP, SrcPort: 1024, DstPort: 80,
		}
		k.SetRoutes(map[netip.Prefix]string{netip.MustParsePrefix("0.0.0.0/0"): "eth0"})
		tighten := func(i int) {
			w.rules.Endpoints[1].Ingress = side(on(model.TCP, uint16(i), uint16(i), web))
			settle(t, d, w.state())
		}
		settle(t, d, w.state())
		port := 1
		for first := k.resets; k.resets == first; port++ {
			if port > 9 {
				t.Fatal("generations never come round")
			}
			tighten(port)
		}
		k.idle = true
		w.rules.Endpoints[0].Ingress = side()
		settle(t, d, w.state())
		for last := port + 9; port < last; port++ {
			if fate := k.Probe(k.packet); fate.Passed {
				t.Fatalf("a denied connection lives again:\n%s\n%s", fate, k.Dump())
			}
			tighten(port)
		}
	})
}
