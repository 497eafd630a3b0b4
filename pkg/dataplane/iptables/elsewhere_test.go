package iptables_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/dataplane/nfnl/nfnltest"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// onBackend opens a backend of the kernel that the test has to itself.
func onBackend(t *testing.T, backend string) *iptables.System {
	t.Helper()
	s, err := iptables.Open(context.Background(), iptables.SystemConfig{Backend: backend, IPv6: true, LockTimeout: time.Second}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestWhatAnEarlierLifeLeftInTheOtherBackendGoes: a node whose backend changed
// has both walks, of which the older one is never told of anything again.
func TestWhatAnEarlierLifeLeftInTheOtherBackendGoes(t *testing.T) {
	const (
		a, b   = "aaaaaaaaaa1", "bbbbbbbbbb1"
		a4, b4 = "10.1.0.1", "10.1.0.2"
	)
	for before, now := range map[string]string{iptables.BackendNFT: iptables.BackendLegacy, iptables.BackendLegacy: iptables.BackendNFT} {
		t.Run(before+" to "+now, func(t *testing.T) {
			nfnltest.Isolate(t)
			nfnltest.Run(t, "", "sysctl", "-qw", "net.ipv4.ip_forward=1")
			podLink(t, a, a4)
			podLink(t, b, b4)
			echo(t, b, b4, 53)
			const others = "*mangle\n:OTHERS - [0:0]\n-A FORWARD -p icmp -j OTHERS\nCOMMIT\n"
			// The walk of the table that is made last comes first.
			nfnltest.Run(t, others, "iptables-"+now+"-restore", "--noflush")
			nfnltest.Run(t, others, "iptables-"+before+"-restore", "--noflush")

			w := &world{}
			db := w.addresses(desired.IPv4, "app=db", b4)
			gone := w.addresses(desired.IPv4, "app=gone", b4)
			w.pod(a, nil, side(on(model.UDP, 53, 53, inSet(db)), on(model.TCP, 53, 53, inSet(gone))), a4)
			settle(t, iptables.New(iptables.Config{IPv6: true}, onBackend(t, before), quiet()), w.state())
			conn := client(t, a, a4, b4)
			conn.answered(t, "before", true)

			// The new life denies it. Its first generation is that of the old one.
			k := onBackend(t, now)
			d := iptables.New(iptables.Config{IPv6: true}, k, quiet())
			w = &world{}
			w.pod(a, nil, side(on(model.TCP, 53, 53, block(b4+"/32"))), a4)
			denies := w.state()
			if _, err := d.Apply(context.Background(), denies); err != nil {
				t.Fatal(err)
			}
			conn.answered(t, "the old walk has marked it for the new one", true)
			for _, want := range []bool{true, false} {
				found, err := k.RemoveElsewhere(context.Background())
				if err != nil || found != want {
					t.Fatalf("found something: %t, expected %t: %v", found, want, err)
				}
			}
			for _, command := range []string{"iptables-" + before + "-save", "ip6tables-" + before + "-save"} {
				if out := nfnltest.Run(t, "", command); strings.Contains(out, iptables.OurChains) {
					t.Errorf("left over: %s:\n%s", command, out)
				}
			}
			if out := nfnltest.Run(t, "", "iptables-"+before+"-save"); !strings.Contains(out, "-A FORWARD -p icmp -j OTHERS") {
				t.Errorf("the rules of others are gone:\n%s", out)
			}
			conn.answered(t, "what the old walk had allowed", false)
			settle(t, d, denies)
			if out := nfnltest.Run(t, "", "ipset", "list", "-n"); strings.Contains(out, "ovl") {
				t.Errorf("sets that only the old rules asked:\n%s", out)
			}
			w = &world{}
			w.pod(a, nil, nil, a4)
			settle(t, d, w.state())
			conn.answered(t, "what the new walk allows", true)
		})
	}
}
