package iptables_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// void is a kernel that does nothing: what is left is our own cost.
type void struct {
	tables map[desired.Family]iptables.Tables
}

func (v void) Tables(_ context.Context, f desired.Family) (iptables.Tables, error) {
	return v.tables[f], nil
}
func (void) Restore(context.Context, desired.Family, []byte) error        { return nil }
func (void) Sets(context.Context) ([]iptables.SetHeader, error)           { return nil, nil }
func (void) Elements(context.Context, string) ([]iptables.Element, error) { return nil, nil }
func (void) Flows(context.Context, iptables.FlowChange) (int, error)      { return 0, nil }
func (void) Change(_ context.Context, changes []iptables.SetChange) error {
	for _, c := range changes {
		if c.Elements != nil {
			for range c.Elements {
				continue
			}
		}
	}
	return nil
}

// node has 250 pods, 1,000 policies of ten rules each on them, four on a pod,
// and as many sets.
func node() (*world, *desired.State) {
	w := &world{rules: desired.Rules{Protected: true}}
	var ids []desired.SetID
	for i := range 1000 {
		ids = append(ids, w.addresses(desired.IPv4, fmt.Sprint("app=", i), fmt.Sprintf("10.2.%d.%d", i/250, 1+i%250)))
	}
	for pod := range 250 {
		var in, out []desired.Rule
		for p := range 4 {
			for r := range 10 {
				in = append(in, on(model.TCP, uint16(1+r), uint16(1+r), inSet(ids[(pod*4+p)%1000])))
				out = append(out, on(model.UDP, uint16(1+r), uint16(1+r), inSet(ids[(pod*4+p)%1000])))
			}
		}
		w.pod(fmt.Sprintf("%x%010d", pod%16, pod), side(in...), side(out...), netip.AddrFrom4([4]byte{10, 1, 0, byte(pod)}).String())
	}
	return w, w.state()
}

func BenchmarkCompile(b *testing.B) {
	_, s := node()
	rules := 0
	for b.Loop() {
		p := iptables.Compile(s, iptables.Config{IPv6: true})
		rules = p.IPv4.Rules() + p.IPv6.Rules()
	}
	b.ReportMetric(float64(rules), "rules")
}

func BenchmarkApplyOnePolicy(b *testing.B) {
	w, s := node()
	d := iptables.New(iptables.Config{IPv6: true}, void{}, quiet())
	if _, err := d.Apply(context.Background(), s); err != nil {
		b.Fatal(err)
	}
	other := side(desired.Rule{Protocol: model.TCP})
	for i := 0; b.Loop(); i++ {
		if i%2 == 0 {
			w.rules.Endpoints[7].Ingress, other = other, w.rules.Endpoints[7].Ingress
		}
		if _, err := d.Apply(context.Background(), w.state()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApplyOneMember(b *testing.B) {
	w, s := node()
	d := iptables.New(iptables.Config{IPv6: true}, void{}, quiet())
	if _, err := d.Apply(context.Background(), s); err != nil {
		b.Fatal(err)
	}
	id := s.Rules.Sets[0].ID
	now := s
	a := netip.MustParseAddr("10.64.0.0")
	for b.Loop() {
		a = a.Next()
		m, _ := now.Sets.Get(id)
		m.Addrs = m.Addrs.With(a)
		w.gen++
		now = &desired.State{Gen: w.gen, Rules: now.Rules, Sets: now.Sets.With(id, m)}
		if _, err := d.Apply(context.Background(), now); err != nil {
			b.Fatal(err)
		}
	}
}
