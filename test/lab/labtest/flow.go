package labtest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/test/lab/netprobe"
)

// flowLimit is how long flows go on that nobody ends.
const flowLimit = 9 * time.Minute

// NetworkExec runs a command of the machine in the network namespace of a pod that
// is not on its node's. A status other than 0 is for the caller to judge.
func (p *Pod) NetworkExec(t testing.TB, command ...string) Output {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), disturbTimeout)
	defer cancel()
	where, err := p.network(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = "/"
	out, err := run(cmd, where)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Flows are flows that last, sent from one place.
type Flows struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdout bytes.Buffer
	stderr bytes.Buffer
	over   bool
}

// StartFlows sends flows, each MODE://ADDRESS:PORT to a `netprobe serve --flow`,
// from the network namespace of a pod until Stop or the test's end. It needs
// nothing of the API server.
func (p *Pod) StartFlows(t testing.TB, interval time.Duration, flows ...string) *Flows {
	t.Helper()
	where, err := p.network(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"flow", "--for", flowLimit.String(), "--interval", interval.String()}, flows...)
	f := &Flows{t: t, cmd: exec.Command(filepath.Join(p.Cluster.lab.dir.Bin(), "netprobe"), args...)}
	f.cmd.Stdout, f.cmd.Stderr, f.cmd.Dir = &f.stdout, &f.stderr, "/"
	if err := where.Start(f.cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !f.over {
			_ = f.cmd.Process.Kill() // nobody asked for its reports
			_ = f.cmd.Wait()         // as above
		}
	})
	return f
}

// Stop ends the flows and returns what became of each, by its name as it was
// given.
func (f *Flows) Stop() map[string]netprobe.FlowReport {
	f.t.Helper()
	f.over = true
	_ = f.cmd.Process.Signal(syscall.SIGTERM) // that it has ended by itself is seen below
	if err := f.cmd.Wait(); err != nil {
		f.t.Fatalf("netprobe flow: %v: %s", err, f.stderr.String())
	}
	reports, err := netprobe.ParseFlowReports(strings.NewReader(f.stdout.String()))
	if err != nil {
		f.t.Fatal(err)
	}
	return reports
}

// UDP opens a socket in the network namespace of a pod that is not on its node's,
// until the test ends, whose datagrams live for that many hops. It needs nothing of
// the API server. The network is udp4 or udp6.
func (p *Pod) UDP(t testing.TB, network string, hops int) *net.UDPConn {
	t.Helper()
	where, err := p.network(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var conn *net.UDPConn
	err = where.Do(func() (err error) {
		conn, err = net.ListenUDP(network, nil)
		return err
	})
	if err != nil {
		t.Fatalf("open a socket in the network of %s: %v", p, err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // nothing is left to be lost
	raw, err := conn.SyscallConn()
	if err == nil {
		level, option := unix.IPPROTO_IP, unix.IP_TTL
		if network == "udp6" {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
		}
		failed := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, hops) })
		err = errors.Join(err, failed)
	}
	if err != nil {
		t.Fatalf("limit the hops of a socket: %v", err)
	}
	return conn
}
