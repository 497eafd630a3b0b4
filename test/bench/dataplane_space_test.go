package bench

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/dataplane/iptables"
	"github.com/overland-net/overland/pkg/dataplane/nfnl/nfnltest"
	"github.com/overland-net/overland/pkg/desired"
)

// space is a thread in network and mount namespaces of its own: a node for a
// benchmark to try rules on.
type space struct {
	b     *testing.B
	calls chan func()
	ended chan struct{}
}

// newSpace makes a space that ends with the benchmark.
func newSpace(b *testing.B) *space {
	b.Helper()
	s := &space{b: b, calls: make(chan func()), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		nfnltest.Isolate(b)
		for call := range s.calls {
			call()
		}
	}()
	b.Cleanup(func() {
		close(s.calls)
		<-s.ended
	})
	s.do(func() {})
	return s
}

// do runs f there. It may end the benchmark as f could here.
func (s *space) do(f func()) {
	s.b.Helper()
	done := make(chan struct{})
	select {
	case s.calls <- func() { defer close(done); f() }:
		<-done
	case <-s.ended:
	}
	if s.b.Failed() {
		s.b.FailNow()
	}
}

// run runs programs there, each given as one line.
func (s *space) run(lines ...string) {
	s.b.Helper()
	s.do(func() {
		for _, line := range lines {
			nfnltest.Run(s.b, "", strings.Fields(line)...)
		}
	})
}

// restores counts the rule transactions of a kernel.
type restores struct {
	iptables.Kernel
	count int
}

func (r *restores) Restore(ctx context.Context, f desired.Family, script []byte) error {
	r.count++
	return r.Kernel.Restore(ctx, f, script)
}

// open is the kernel of a space, with one backend of iptables.
func (s *space) open(backend string, ipv6 bool) *restores {
	s.b.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	r := &restores{}
	s.do(func() {
		system, err := iptables.Open(s.b.Context(), iptables.SystemConfig{Backend: backend, IPv6: ipv6}, logrus.NewEntry(log))
		if err != nil {
			s.b.Fatal(err)
		}
		r.Kernel = system
		s.b.Cleanup(func() {
			if err := system.Close(); err != nil {
				s.b.Error(err)
			}
		})
	})
	return r
}

func newDataplane(k iptables.Kernel, ipv6 bool) *iptables.Dataplane {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return iptables.New(iptables.Config{IPv6: ipv6}, k, logrus.NewEntry(log))
}

// apply puts a State into force, there.
func (s *space) apply(d dataplane.Dataplane, want *desired.State) dataplane.Report {
	s.b.Helper()
	var r dataplane.Report
	s.do(func() {
		var err error
		if r, err = d.Apply(s.b.Context(), want); err != nil || !r.Applied {
			s.b.Fatalf("not in force: %+v: %v", r, err)
		}
	})
	return r
}

// pod makes a pod as Azure CNI does: a network namespace of that name, the node's
// end of its link, a host route to its address, and a neighbour that never
// changes.
func (s *space) pod(name, iface, address string) {
	const mac = "02:00:00:00:00:01"
	s.run(
		"ip netns add "+name,
		"ip link add "+iface+" type veth peer name eth0 netns "+name,
		"ip link set "+iface+" address "+mac+" up",
		"ip -n "+name+" link set lo up",
		"ip -n "+name+" link set eth0 address 02:00:00:00:00:02 up",
		"ip -n "+name+" addr add "+address+"/32 dev eth0",
		"ip -n "+name+" neigh add 169.254.1.1 lladdr "+mac+" dev eth0 nud permanent",
		"ip -n "+name+" route add default via 169.254.1.1 dev eth0 onlink",
		"ip route add "+address+"/32 dev "+iface,
		fmt.Sprintf("ip neigh add %s lladdr 02:00:00:00:00:02 dev %s nud permanent", address, iface),
	)
}

// opened opens something in the network namespace of a pod.
func opened[T any](s *space, pod string, open func() (T, error)) (v T) {
	s.b.Helper()
	s.do(func() {
		nfnltest.Enter(s.b, pod, func() (err error) {
			v, err = open()
			return err
		})
	})
	return v
}
