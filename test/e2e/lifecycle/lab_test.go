package lifecycle

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/test/lab/daemon"
)

func TestALabThatIsUpIsNotSeenByTheMachineAndStandsItsTreatment(t *testing.T) {
	l := newLab(t, "state")
	l.must("up", "--clusters", "west,canada", "--nodes", "1")
	// Steps of one lab, in this order, since starting one takes long.
	steps := []struct {
		name string
		do   func(*lab)
	}{
		{"up again says so", upAgain},
		{"other options are refused", otherOptions},
		{"not root is refused", refusedToNobody},
		{"peerings are cut, slowed and healed", peerings},
		{"commands on a node see the node", commandsOnANode},
		{"a component that is killed is restarted and counted", killedComponent},
		{"a component that is stopped stays so until it is started", stoppedComponent},
		{"nothing of the old boot outlives a reboot", reboot},
		{"a second lab stands beside it", secondLab},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			inner := *l
			inner.t = t
			step.do(&inner)
			inner.machineUnchanged()
			if status := inner.status(); status.Phase != daemon.PhaseReady {
				t.Errorf("the lab is %s", status.Phase)
			}
		})
	}
	l.down()
	if out := l.must("down"); out != "no lab in "+string(l.dir)+": nothing to do\n" {
		t.Errorf("a second down says %q", out)
	}
}

func upAgain(l *lab) {
	first := l.first()
	out := l.must("up", "--clusters", "west,canada", "--nodes", "1")
	if !strings.HasPrefix(out, "the lab is up already in "+string(l.dir)) {
		l.t.Errorf("up says %q", out)
	}
	if l.first() != first {
		l.t.Error("the lab was started anew")
	}
}

func otherOptions(l *lab) {
	first := l.first()
	l.refused(l.command("up", "--clusters", "west,canada", "--nodes", "2"), 1, "a lab with other options is up in "+string(l.dir))
	l.refused(l.command("cut", "west", "east"), 1, `no peering from "west" to "east"`)
	l.refused(l.command("kubeconfig", "east"), 1, `no cluster "east" in this lab; it has west, canada`)
	l.refused(l.command("exec", "west/node-9", "--", "true"), 1, `no node "node-9" in cluster west; it has node-1`)
	l.refused(l.command("stop", "west", "kubelet"), 1, `no component "west/kubelet"; there are canada/etcd, `)
	l.refused(l.command("reboot", "west/node-1", "--first", "kubelet"), 1, `kube-proxy or agent expected, got "kubelet"`)
	if l.first() != first {
		l.t.Error("the lab was started anew")
	}
}

func refusedToNobody(l *lab) {
	for _, args := range commands() {
		l.refused(l.command(args...).asNobody(), 1, "needs root")
	}
}

func peerings(l *lab) {
	state := func(want string) {
		l.t.Helper()
		// Columns are as wide as they need to be.
		if out := strings.Join(strings.Fields(l.must("status")), " "); !strings.Contains(out, want) {
			l.t.Errorf("status says\n%s\nwithout %q", out, want)
		}
	}
	ping := func(want int) {
		l.t.Helper()
		if a := l.run("exec", "west/node-1", "--", "netprobe", "probe", "icmp://10.2.0.4", "--expect", "all"); a.status != want {
			l.t.Errorf("a probe across the peering: want status %d, got %s", want, a)
		}
	}
	ping(0)
	l.must("cut", "west", "canada", "--one-way")
	ping(1)
	state("west → canada cut")
	state("canada → west healthy")
	l.must("delay", "west", "canada", "3ms", "--loss", "0")
	ping(0)
	state("delay 3ms")
	l.must("heal")
	ping(0)
	state("west → canada healthy")
}

func commandsOnANode(l *lab) {
	if out := l.must("exec", "canada/node-1", "--", "hostname"); out != "node-1\n" {
		l.t.Errorf("the node's host name is %q", out)
	}
	if out := l.must("exec", "canada/node-1", "--", "ip", "-4", "-brief", "address", "show", "eth0"); !strings.Contains(out, " 10.2.0.4/16 ") {
		l.t.Errorf("the node's eth0 has %q", out)
	}
	if a := l.run("exec", "canada/node-1", "--", "sh", "-c", "exit 17"); a.status != 17 {
		l.t.Errorf("want the command's status, got %s", a)
	}
	out := l.must("netns", "west-cp", "--", "ip", "-4", "-brief", "address", "show", "eth0")
	if !strings.Contains(out, " 10.1.255.4/16 ") {
		l.t.Errorf("the control plane's eth0 has %q", out)
	}
}

// component is a component's status.
func (l *lab) component(name string) daemon.ComponentStatus {
	l.t.Helper()
	for _, cluster := range l.status().Clusters {
		all := cluster.Components
		for _, n := range cluster.Nodes {
			all = append(all, n.Components...)
		}
		for _, c := range all {
			if c.Name == name {
				return c
			}
		}
	}
	l.t.Fatalf("no component %s", name)
	return daemon.ComponentStatus{}
}

func killedComponent(l *lab) {
	for _, name := range []string{"west/kube-scheduler", "west/node-1/kubelet"} {
		before := l.component(name)
		// A namespace of the lab's network has the lab's process ids, too.
		l.must("netns", "outside", "--", "kill", "-KILL", strconv.Itoa(before.PID))
		l.eventually(name+" runs again", func() bool {
			c := l.component(name)
			return c.State == "running" && c.PID != before.PID
		})
		if c := l.component(name); c.Restarts != 1 || c.Last != "signal: killed" {
			l.t.Errorf("%s: want 1 restart after a kill, got %+v", name, c)
		}
	}
}

func stoppedComponent(l *lab) {
	const name = "west/node-1/kube-proxy"
	l.must("stop", "west/node-1", "kube-proxy")
	l.must("stop", "west/node-1", "kube-proxy") // is fine
	// Longer than the delay of a restart: nothing may happen in it.
	time.Sleep(2 * time.Second)
	if c := l.component(name); c.State != "stopped" || c.PID != 0 {
		l.t.Errorf("after stop: %+v", c)
	}
	l.must("start", "west/node-1", "kube-proxy")
	l.must("start", "west/node-1", "kube-proxy") // is fine
	if c := l.component(name); c.State != "running" || c.Restarts != 0 {
		l.t.Errorf("after start: %+v", c)
	}
}

func secondLab(l *lab) {
	// Blanks, and more than the 107 characters that a socket's path may have.
	other := newLab(l.t, filepath.Join("with a blank", strings.Repeat("long", 30), "lab 'two'"))
	if err := os.MkdirAll(filepath.Dir(string(other.dir)), 0o755); err != nil {
		l.t.Fatal(err)
	}
	other.must(append(small(), "--iptables", "legacy")...)
	if out := other.must("exec", "west/node-1", "--", "hostname"); out != "node-1\n" {
		l.t.Errorf("the host name of the second lab's node is %q", out)
	}
	// kube-proxy's rules are in the backend that was asked for, and only there.
	for backend, want := range map[string]bool{"legacy": true, "nft": false} {
		rules := other.must("exec", "west/node-1", "--", "iptables-"+backend+"-save", "-t", "nat")
		if strings.Contains(rules, "-A KUBE-SERVICES ") != want {
			l.t.Errorf("rules of kube-proxy in the backend %s: want %t, got\n%s", backend, want, rules)
		}
	}
	script := `eval "$(` + shellQuote(program()) + ` env west)" && kubectl get nodes -o name`
	kubectl := other.command()
	kubectl.Path, kubectl.Args = "/bin/sh", []string{"sh", "-c", script}
	if err := kubectl.Start(); err != nil {
		l.t.Fatal(err)
	}
	if a := kubectl.wait(l.t); a.status != 0 || a.out != "node/node-1\n" {
		l.t.Errorf("the wrapped kubectl: %s", a)
	}
	other.down()
	if err := os.RemoveAll(filepath.Dir(filepath.Dir(string(other.dir)))); err != nil {
		l.t.Fatal(err)
	}
}

func shellQuote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
