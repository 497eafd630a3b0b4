package labtest

import (
	"context"
	"testing"
	"time"

	"github.com/overland-net/overland/test/lab/daemon"
)

// disturbTimeout bounds one change of the lab; a reboot takes longest.
const disturbTimeout = 2 * time.Minute

// do makes a change that has to succeed.
func do(t testing.TB, what string, change func(context.Context) error) {
	t.Helper()
	// Not the test's own context, which has ended when a cleanup runs.
	ctx, cancel := context.WithTimeout(context.Background(), disturbTimeout)
	defer cancel()
	if err := change(ctx); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// impair changes a peering until Heal or the test's end.
func (l *Lab) impair(t testing.TB, r daemon.ImpairRequest) {
	t.Helper()
	t.Cleanup(func() { l.Heal(t, r.From, r.To) })
	do(t, "impair the peering", func(ctx context.Context) error { return l.Daemon.Impair(ctx, r) })
}

// Cut cuts the peering of two clusters both ways, until Heal or the test's end.
func (l *Lab) Cut(t testing.TB, a, b string) {
	t.Helper()
	r := daemon.ImpairRequest{From: a, To: b}
	r.Impairment.Cut = true
	l.impair(t, r)
}

// CutOneWay drops what goes from one cluster to the other, until Heal or the
// test's end.
func (l *Lab) CutOneWay(t testing.TB, from, to string) {
	t.Helper()
	r := daemon.ImpairRequest{From: from, To: to, OneWay: true}
	r.Impairment.Cut = true
	l.impair(t, r)
}

// CutAPI cuts two clusters off from each other's API server, and from nothing
// else, until Heal or the test's end.
func (l *Lab) CutAPI(t testing.TB, a, b string) {
	t.Helper()
	r := daemon.ImpairRequest{From: a, To: b}
	r.Impairment.CutAPI = true
	l.impair(t, r)
}

// Delay holds every packet of a peering for that long, each way, until Heal or
// the test's end.
func (l *Lab) Delay(t testing.TB, a, b string, hold time.Duration) {
	t.Helper()
	r := daemon.ImpairRequest{From: a, To: b}
	r.Impairment.Delay = hold
	l.impair(t, r)
}

// Heal makes the peering of two clusters healthy, both ways.
func (l *Lab) Heal(t testing.TB, a, b string) {
	t.Helper()
	do(t, "heal the peering", func(ctx context.Context) error { return l.Daemon.Heal(ctx, a, b) })
}

// Stop stops a component, such as west/kube-apiserver or west/node-1/kubelet,
// until Start or the test's end.
func (l *Lab) Stop(t testing.TB, component string) { l.stop(t, component, false) }

// Kill is Stop without a warning to the component.
func (l *Lab) Kill(t testing.TB, component string) { l.stop(t, component, true) }

func (l *Lab) stop(t testing.TB, component string, kill bool) {
	t.Helper()
	t.Cleanup(func() { l.Start(t, component) })
	do(t, "stop "+component, func(ctx context.Context) error {
		return l.Daemon.Stop(ctx, daemon.ComponentRequest{Name: component, Kill: kill})
	})
}

// Start starts a component that is stopped; one that runs is fine.
func (l *Lab) Start(t testing.TB, component string) {
	t.Helper()
	do(t, "start "+component, func(ctx context.Context) error {
		return l.Daemon.Start(ctx, daemon.ComponentRequest{Name: component})
	})
}

// Reboot reboots a node, named CLUSTER/NODE; first is what runs first after it:
// kube-proxy or agent. Its pods are not back when Reboot returns.
func (l *Lab) Reboot(t testing.TB, node, first string) {
	t.Helper()
	do(t, "reboot "+node, func(ctx context.Context) error {
		return l.Daemon.Reboot(ctx, daemon.RebootRequest{Node: node, First: first})
	})
}
