package cni

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/overland-net/overland/pkg/admin/api"
)

// prevResult has Azure's shape, and what the library would lose: a field that it
// does not know, spaces, a number's form.
const prevResult = `{ "cniVersion":"0.3.0", "interfaces":[{"name":"eth0","mac":"aa:bb"}], "newer":{"z":1,"a":[1e2,1.0]},
  "ips":[{"version":"4","address":"10.1.0.5/16","gateway":"10.1.0.1"},{"version":"6","address":"fd00:1::5/64"}], "dns":{} }`

const podOfShop = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u-1"

// conf is stdin, with more keys of ours (`,"a":1`).
func conf(version, socket, more string) string {
	return fmt.Sprintf(`{"cniVersion":%q,"name":"azure","type":"overland-cni","socket":%q,"runtimeConfig":{"x":1}%s}`, version, socket, more)
}

func withResult(more string) string { return `,"prevResult":` + prevResult + more }

func TestAddTellsTheAgentOfThePodAndPassesTheResultOn(t *testing.T) {
	n, agent := newNode(t), newAgent(t)
	// The first interfaces of both namespaces: their indexes are the same.
	same := n.sandbox("azv1")
	other := n.sandbox("azv2")
	if other.peer == same.peer {
		t.Fatalf("both peers have index %d", same.peer)
	}
	for _, version := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		for name, s := range map[string]sandbox{"same index": same, "other index": other} {
			t.Run(version+" "+name, func(t *testing.T) {
				a := n.mustCall(call{
					command: "ADD", container: "c1", netns: s.netns, ifName: "eth0", args: podOfShop,
					stdin: conf(version, agent.socket, withResult("")),
				})
				if a.status != 0 || a.stdout != prevResult || a.stderr != "" {
					t.Fatalf("status %d, stdout %q, stderr %q", a.status, a.stdout, a.stderr)
				}
				want := []request{{Path: api.PathCNIAdd, Attachment: api.CNIAttachment{
					ContainerID: "c1", IfName: "eth0", Netns: s.netns, Namespace: "shop", Pod: "cart-0", UID: "u-1",
					PeerIndex: s.peer, Addresses: []string{"10.1.0.5", "fd00:1::5"},
				}}}
				got := agent.taken()
				if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(api.CNIAttachment{}, "TimeoutMillis")); diff != "" {
					t.Fatalf("asked (-want +got):\n%s", diff)
				}
				if ms := got[0].Attachment.TimeoutMillis; ms > 10_000 {
					t.Errorf("the agent is told %d ms", ms)
				}
			})
		}
	}
}

func TestAddWithoutAGoodAnswerOfTheAgent(t *testing.T) {
	n, agent := newNode(t), newAgent(t)
	pod := n.sandbox("azv1")
	add := func(namespace, socket, more string) call {
		return call{
			command: "ADD", container: "c1", netns: pod.netns, ifName: "eth0",
			args: "K8S_POD_NAMESPACE=" + namespace + ";K8S_POD_NAME=p", stdin: conf("0.3.0", socket, withResult(`,"timeoutSeconds":1`+more)),
		}
	}
	code := func(code string) func(*fakeAgent) { return func(a *fakeAgent) { a.code = code } }
	dead := filepath.Join(t.TempDir(), "dead.sock")
	if err := os.WriteFile(dead, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		socket string // the agent's, if empty
		set    func(*fakeAgent)
		want   string // in the error's details
		final  bool   // it holds for fail-open namespaces too
	}{
		{"no socket", "/nonexistent/a.sock", nil, "is overland-agent running on this node", false},
		{"nobody listens", dead, nil, "is overland-agent running on this node", false},
		{"silent", "", func(a *fakeAgent) { a.silent = true }, "did not answer on", false},
		{"not an agent", "", func(a *fakeAgent) { a.stranger = true }, "is it the agent's socket", false},
		{"starting", "", code(api.CodeStarting), "answers Starting: says the\nagent: it is tried again", false},
		{"busy", "", code(api.CodeBusy), "answers Busy", false},
		{"not enforced", "", code(api.CodeNotEnforced), "answers NotEnforced: says the\nagent: see the agent's log", false},
		{"internal", "", code(api.CodeInternal), "answers Internal", false},
		{"older agent", "", code(api.CodeNotAllowed), "update the agent", false},
		{"not root", "", code(api.CodeForbidden), "has to run as root", false},
		{"conflict", "", code(api.CodeConflict), "answers Conflict", true},
		{"invalid", "", code(api.CodeInvalid), "answers Invalid", true},
		{"not found", "", code(api.CodeNotFound), "answers NotFound", true},
		{"a code that is not known", "", code("Rejected"), "answers Rejected", true},
	}
	namespaces := []struct {
		namespace, more string
		open            bool
	}{
		{"shop", "", false},
		{"kube-system", "", true},
		{"overland-system", "", true},
		{"kube-system", `,"failOpenNamespaces":[]`, false},
		{"kube-system", `,"failOpenNamespaces":["shop"]`, false},
		{"shop", `,"failOpenNamespaces":["shop"]`, true},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			socket := tt.socket
			if socket == "" {
				socket = agent.socket
			}
			agent.set(func(a *fakeAgent) {
				if tt.set != nil {
					tt.set(a)
				}
			})
			for j, ns := range namespaces {
				if i > 0 && j > 1 {
					continue // what is on the list does not depend on what is wrong
				}
				t.Run(ns.namespace+ns.more, func(t *testing.T) {
					t.Parallel() // most wait until their time is over
					a := n.mustCall(add(ns.namespace, socket, ns.more))
					if ns.open && !tt.final {
						if a.status != 0 || a.stdout != prevResult {
							t.Errorf("%s%s: status %d, stdout %q", ns.namespace, ns.more, a.status, a.stdout)
						}
						if strings.Count(a.stderr, "\n") != 1 || !strings.Contains(a.stderr, "pod "+ns.namespace+"/p starts although") {
							t.Errorf("%s%s: stderr %q is not one line that says it", ns.namespace, ns.more, a.stderr)
						}
						return
					}
					if a.Code != 11 || !strings.Contains(a.Msg, ns.namespace+"/p") || !strings.Contains(a.Details, tt.want) || a.CNIVersion != "0.3.0" {
						t.Errorf("%s%s: %+v, want code 11 and %q", ns.namespace, ns.more, a, tt.want)
					}
				})
			}
		})
	}
}

func TestWrongCallsAreRefusedByName(t *testing.T) {
	n, agent := newNode(t), newAgent(t)
	pod := n.sandbox("azv1")
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	good := conf("0.3.0", agent.socket, withResult(""))
	args := func(namespace, name, uid string) string {
		return "IgnoreUnknown=1;K8S_POD_NAMESPACE=" + namespace + ";K8S_POD_NAME=" + name + ";K8S_POD_UID=" + uid
	}
	tests := []struct {
		name   string
		change func(*call)
		code   uint
		want   string // in the message
	}{
		{"first of a chain", func(c *call) { c.stdin = conf("0.3.0", agent.socket, "") }, 7, "chained after the plugin that does, as azure-vnet"},
		{"null result", func(c *call) { c.stdin = conf("0.3.0", agent.socket, `,"prevResult":null`) }, 7, "chained after"},
		{"result is a list", func(c *call) { c.stdin = conf("0.3.0", agent.socket, `,"prevResult":[]`) }, 6, "prevResult"},
		{"no address", func(c *call) { c.stdin = conf("0.3.0", agent.socket, `,"prevResult":{}`) }, 7, "no address"},
		{"empty stdin", func(c *call) { c.stdin = "" }, 6, "network config"},
		{"malformed stdin", func(c *call) { c.stdin = `{"name":` }, 6, "network config"},
		{"deep stdin", func(c *call) { c.stdin = strings.Repeat(`{"a":`, 100_000) }, 6, "network config"},
		{"huge stdin", func(c *call) { c.stdin = good + strings.Repeat(" ", maxStdin) }, 5, "longer than"},
		{"large stdin that is fine but for its end", func(c *call) { c.stdin = good + strings.Repeat(" ", maxStdin-len(good)-1) + "x" }, 6, "network config"},
		{"no name", func(c *call) { c.stdin = `{"cniVersion":"0.3.0"}` }, 7, "network name"},
		{"older protocol", func(c *call) { c.stdin = strings.Replace(good, "0.3.0", "0.2.0", 1) }, 1, "incompatible"},
		{"newer protocol", func(c *call) { c.stdin = strings.Replace(good, "0.3.0", "9.0.0", 1) }, 1, "incompatible"},
		{"no protocol", func(c *call) { c.stdin = strings.Replace(good, "0.3.0", "", 1) }, 1, "incompatible"},
		{"unknown command", func(c *call) { c.command = "FLY" }, 4, "CNI_COMMAND"},
		{"no container", func(c *call) { c.container = "" }, 4, "CNI_CONTAINERID"},
		{"hostile container", func(c *call) { c.container = "../x" }, 4, "containerID"},
		{"no interface", func(c *call) { c.ifName = "" }, 4, "CNI_IFNAME"},
		{"hostile interface", func(c *call) { c.ifName = "a/b" }, 4, "interface name"},
		{"long interface", func(c *call) { c.ifName = "eth0123456789012" }, 4, "interface name"},
		{"no arguments", func(c *call) { c.args = "" }, 4, "K8S_POD_NAMESPACE"},
		{"no pod", func(c *call) { c.args = "K8S_POD_NAMESPACE=a" }, 4, "K8S_POD_NAME "},
		{"unknown argument", func(c *call) { c.args = "X=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b" }, 4, "CNI_ARGS"},
		{"malformed arguments", func(c *call) { c.args = "K8S_POD_NAME" }, 4, "CNI_ARGS"},
		{"an embedded field", func(c *call) { c.args = "CommonArgs=1" }, 4, "CNI_ARGS"},
		{"namespace goes up", func(c *call) { c.args = args("..", "p", "u") }, 4, "K8S_POD_NAMESPACE"},
		{"namespace with slash", func(c *call) { c.args = args("a/b", "p", "u") }, 4, "K8S_POD_NAMESPACE"},
		{"pod goes up", func(c *call) { c.args = args("a", "..", "u") }, 4, "K8S_POD_NAME "},
		{"pod with slash", func(c *call) { c.args = args("a", "p/../q", "u") }, 4, "K8S_POD_NAME "},
		{"pod with newline", func(c *call) { c.args = args("a", "p\nq", "u") }, 4, "K8S_POD_NAME "},
		{"endless pod", func(c *call) { c.args = args("a", strings.Repeat("p", 100_000), "u") }, 4, "K8S_POD_NAME "},
		{"not UTF-8", func(c *call) { c.args = args("a", "p\xff", "u") }, 4, "K8S_POD_NAME "},
		{"hostile UID", func(c *call) { c.args = args("a", "p", "u u") }, 4, "K8S_POD_UID"},
		{"no such namespace", func(c *call) { c.netns = "/nonexistent" }, 8, "CNI_NETNS"},
		{"not a namespace", func(c *call) { c.netns = "/dev/null" }, 8, "CNI_NETNS"},
		{"a pipe that nobody writes", func(c *call) { c.netns = fifo }, 8, "CNI_NETNS"},
		{"the node's namespace", func(c *call) { c.netns = "/proc/self/ns/net" }, 8, "CNI_NETNS"},
		{"no such interface", func(c *call) {
			c.ifName = "eth7"
		}, 7, "interface eth7"},
		{"not a veth", func(c *call) { c.ifName = "lo" }, 7, "interface lo"},
		{"socket elsewhere", func(c *call) { c.stdin = conf("0.3.0", "a.sock", withResult("")) }, 7, "socket"},
		{"no time", func(c *call) { c.stdin = conf("0.3.0", agent.socket, withResult(`,"timeoutSeconds":-1`)) }, 7, "timeoutSeconds"},
		{"too much time", func(c *call) { c.stdin = conf("0.3.0", agent.socket, withResult(`,"timeoutSeconds":101`)) }, 7, "timeoutSeconds"},
		{"time is text", func(c *call) { c.stdin = conf("0.3.0", agent.socket, withResult(`,"timeoutSeconds":"10s"`)) }, 6, "overland-cni"},
		{"pattern", func(c *call) { c.stdin = conf("0.3.0", agent.socket, withResult(`,"failOpenNamespaces":["kube-*"]`)) }, 7, "failOpenNamespaces[0]"},
		{"CHECK in 0.3.0", func(c *call) { c.command = "CHECK" }, 1, "CHECK"},
		{"GC in 0.3.0", func(c *call) { c.command = "GC" }, 1, "GC"},
		{"STATUS in 0.3.0", func(c *call) { c.command = "STATUS" }, 1, "STATUS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := call{command: "ADD", container: "c1", netns: pod.netns, ifName: "eth0", args: podOfShop, stdin: good}
			tt.change(&c)
			a := n.mustCall(c)
			if a.status != 1 || a.Code != tt.code || !strings.Contains(a.Msg+" ", tt.want) {
				t.Errorf("status %d, code %d %q %q; want %d and %q", a.status, a.Code, a.Msg, a.Details, tt.code, tt.want)
			}
			if len(a.Details) > 2*maxText || a.CNIVersion == "" {
				t.Errorf("version %q, %d bytes of details", a.CNIVersion, len(a.Details))
			}
			if got := agent.taken(); len(got) > 0 {
				t.Errorf("the agent was asked: %+v", got)
			}
		})
	}
}

func TestDelNeverFailsForAbsence(t *testing.T) {
	n, agent := newNode(t), newAgent(t)
	pod := n.sandbox("azv1")
	tests := []struct {
		name   string
		netns  string
		stdin  string
		set    func(*fakeAgent)
		told   bool
		stderr string
	}{
		{"all there", pod.netns, conf("0.3.0", agent.socket, withResult("")), nil, true, ""},
		{"no result", pod.netns, conf("0.3.0", agent.socket, ""), nil, true, ""},
		{"no namespace", "", conf("0.3.0", agent.socket, ""), nil, true, ""},
		{"namespace gone", "/nonexistent", conf("1.1.0", agent.socket, `,"prevResult":{"ips":"?"}`), nil, true, ""},
		{"no agent", pod.netns, conf("0.3.0", "/nonexistent/a.sock", ""), nil, false, "is overland-agent running"},
		{"starting", pod.netns, conf("0.3.0", agent.socket, ""), func(a *fakeAgent) { a.code = api.CodeStarting }, true, "Starting"},
		{"refused", pod.netns, conf("0.3.0", agent.socket, ""), func(a *fakeAgent) { a.code = api.CodeNotFound }, true, "NotFound"},
		{"silent", pod.netns, conf("0.3.0", agent.socket, `,"timeoutSeconds":60`), func(a *fakeAgent) { a.silent = true }, false, "did not answer"},
		{"wrong configuration", pod.netns, conf("0.3.0", agent.socket, `,"timeoutSeconds":-1`), nil, false, "timeoutSeconds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			agent.set(func(a *fakeAgent) {
				if tt.set != nil {
					tt.set(a)
				}
			})
			// What is in CNI_ARGS does not matter.
			a := n.mustCall(call{command: "DEL", container: "c1", netns: tt.netns, ifName: "eth0", args: "?", stdin: tt.stdin})
			if a.status != 0 || a.stdout != "" {
				t.Errorf("status %d, stdout %q", a.status, a.stdout)
			}
			if !strings.Contains(a.stderr, tt.stderr) || (tt.stderr == "") != (a.stderr == "") {
				t.Errorf("stderr %q, want %q", a.stderr, tt.stderr)
			}
			var want []request
			if tt.told {
				want = []request{{Path: api.PathCNIDelete, Attachment: api.CNIAttachment{ContainerID: "c1", IfName: "eth0"}}}
			}
			if diff := cmp.Diff(want, agent.taken(), cmpopts.IgnoreFields(api.CNIAttachment{}, "TimeoutMillis")); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDelDoesNotHoldUpThePodsEnd(t *testing.T) {
	n, agent := newNode(t), newAgent(t)
	if a := n.mustCall(call{command: "DEL", container: "c1", ifName: "eth0", stdin: conf("0.3.0", agent.socket, `,"timeoutSeconds":60`)}); a.status != 0 {
		t.Fatal(a)
	}
	if got := agent.taken(); len(got) != 1 || got[0].Attachment.TimeoutMillis > briefTimeout.Milliseconds() {
		t.Errorf("asked %+v", got)
	}
}

func TestCheckGCAndStatusAskTheAgent(t *testing.T) {
	n, agent := newNode(t), newAgent(t)
	pod := n.sandbox("azv1")
	list := func(text string) string { return `,"cni.dev/valid-attachments":` + text }
	tests := []struct {
		name, command, stdin string
		code                 string // the agent's
		want                 uint
		asked                []request
	}{
		{"check", "CHECK", conf("0.4.0", agent.socket, withResult("")), "", 0, []request{{Path: api.PathCNICheck, Attachment: api.CNIAttachment{
			ContainerID: "c1", IfName: "eth0", Netns: pod.netns, Namespace: "shop", Pod: "cart-0", UID: "u-1",
			PeerIndex: pod.peer, Addresses: []string{"10.1.0.5", "fd00:1::5"},
		}}}},
		{"check without result", "CHECK", conf("1.1.0", agent.socket, ""), "", 7, nil},
		{
			"gc", "GC", conf("1.1.0", agent.socket, list(`[{"containerID":"a","ifname":"eth0"},{"containerID":"b","ifname":"eth1"}]`)), "", 0,
			[]request{{Path: api.PathCNIGC, Valid: []api.CNIAttachmentID{{ContainerID: "a", IfName: "eth0"}, {ContainerID: "b", IfName: "eth1"}}}},
		},
		{"gc of all", "GC", conf("1.1.0", agent.socket, list(`[]`)), "", 0, []request{{Path: api.PathCNIGC, Valid: []api.CNIAttachmentID{}}}},
		{"gc of all, as Go has it", "GC", conf("1.1.0", agent.socket, list(`null`)), "", 0, []request{{Path: api.PathCNIGC, Valid: []api.CNIAttachmentID{}}}},
		{"gc without a list", "GC", conf("1.1.0", agent.socket, ""), "", 7, nil},
		{"gc with a hole", "GC", conf("1.1.0", agent.socket, list(`[{"containerID":"a","ifname":"eth0"},{}]`)), "", 7, nil},
		{"gc with no list", "GC", conf("1.1.0", agent.socket, list(`{}`)), "", 6, nil},
		{"gc refused", "GC", conf("1.1.0", agent.socket, list(`[]`)), api.CodeStarting, 11, []request{{Path: api.PathCNIGC, Valid: []api.CNIAttachmentID{}}}},
		{"status", "STATUS", conf("1.1.0", agent.socket, ""), "", 0, []request{{Path: api.PathCNIStatus}}},
		{"status of an agent that starts", "STATUS", conf("1.1.0", agent.socket, ""), api.CodeStarting, 50, []request{{Path: api.PathCNIStatus}}},
		{"status without agent", "STATUS", conf("1.1.0", "/nonexistent/a.sock", ""), "", 50, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			agent.set(func(a *fakeAgent) { a.code = tt.code })
			c := call{command: tt.command, stdin: tt.stdin}
			if tt.command == "CHECK" {
				c.container, c.netns, c.ifName, c.args = "c1", pod.netns, "eth0", podOfShop
			}
			a := n.mustCall(c)
			if a.Code != tt.want || (a.status == 0) != (tt.want == 0) || tt.want == 0 && a.stdout != "" {
				t.Errorf("%+v, want code %d", a, tt.want)
			}
			if diff := cmp.Diff(tt.asked, agent.taken(), cmpopts.IgnoreFields(api.CNIAttachment{}, "TimeoutMillis")); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

// A pod of a fail-open namespace may have been let in without its policies: that
// is no reason to say that they are enforced.
func TestCheckFailsForPodsOfEveryNamespace(t *testing.T) {
	n := newNode(t)
	pod := n.sandbox("azv1")
	for _, namespace := range []string{"shop", "kube-system"} {
		a := n.mustCall(call{
			command: "CHECK", container: "c1", netns: pod.netns, ifName: "eth0",
			args: "K8S_POD_NAMESPACE=" + namespace + ";K8S_POD_NAME=p", stdin: conf("1.0.0", "/nonexistent/a.sock", withResult("")),
		})
		if a.Code != 11 || !strings.Contains(a.Msg, namespace+"/p") {
			t.Errorf("%s: %+v", namespace, a)
		}
	}
}

func TestAPanicIsACNIErrorAndNotAResult(t *testing.T) {
	n := newNode(t)
	pod := n.sandbox("azv1")
	a := n.mustCall(call{
		as: "panic", command: "ADD", container: "c1", netns: pod.netns, ifName: "eth0", args: podOfShop,
		stdin: conf("1.0.0", "", withResult("")),
	})
	if a.status != 1 || a.Code != 999 || a.Details != "out of cheese" || a.CNIVersion != "1.0.0" {
		t.Errorf("%+v", a)
	}
	if strings.Contains(a.stdout, "goroutine") || !strings.Contains(a.stderr, "goroutine") {
		t.Errorf("stdout %q, stderr %q", a.stdout, a.stderr)
	}
}

func TestVersionAndAboutNeedNoStdin(t *testing.T) {
	n := newNode(t)
	if a := n.mustCall(call{command: "VERSION", stdin: "{"}); a.status != 0 ||
		!strings.Contains(a.stdout, `"supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]`) {
		t.Errorf("%+v", a)
	}
	if a := n.mustCall(call{stdin: "{"}); a.status != 0 || a.stdout != "" || !strings.Contains(a.stderr, "CNI plugin overland-cni") {
		t.Errorf("%+v", a)
	}
}

func TestManyAddsAtOnceDoNotMix(t *testing.T) {
	const count = 50
	n, agent := newNode(t), newAgent(t)
	pods := make([]sandbox, count)
	for i := range pods {
		pods[i] = n.sandbox(fmt.Sprintf("azv%d", i))
	}
	program := builtPlugin(t)
	var group sync.WaitGroup
	began := time.Now()
	for i, pod := range pods {
		group.Go(func() {
			result := fmt.Sprintf(`{"ips":[{"address":"10.1.1.%d/32"}]}`, i)
			a, err := n.call(call{
				program: program, command: "ADD", container: fmt.Sprintf("c%d", i), netns: pod.netns, ifName: "eth0",
				args:  fmt.Sprintf("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=p%d", i),
				stdin: conf("0.3.0", agent.socket, `,"timeoutSeconds":100,"prevResult":`+result),
			})
			if err != nil || a.status != 0 || a.stdout != result {
				t.Errorf("pod %d: %v %+v", i, err, a)
			}
		})
	}
	group.Wait()
	t.Logf("%d ADDs in %v", count, time.Since(began))
	got := map[int]api.CNIAttachment{}
	for _, r := range agent.taken() {
		got[r.Attachment.PeerIndex] = r.Attachment
	}
	for i, pod := range pods {
		a := got[pod.peer]
		want := api.CNIAttachment{
			ContainerID: fmt.Sprintf("c%d", i), IfName: "eth0", Netns: pod.netns, Namespace: "shop", Pod: fmt.Sprintf("p%d", i),
			PeerIndex: pod.peer, Addresses: []string{fmt.Sprintf("10.1.1.%d", i)}, TimeoutMillis: a.TimeoutMillis,
		}
		if diff := cmp.Diff(want, a); diff != "" {
			t.Errorf("pod %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestAddWaitsForAnAgentThatIsRestarted(t *testing.T) {
	n, agent := newNode(t), newAgent(t)
	pod := n.sandbox("azv1")
	for _, namespace := range []string{"shop", "kube-system"} {
		agent.set(func(a *fakeAgent) { a.code = api.CodeStarting })
		stop := make(chan struct{})
		go func() { // it has started once it was asked twice
			for asked := 0; asked < 2; time.Sleep(5 * time.Millisecond) {
				agent.mu.Lock()
				asked = len(agent.got)
				agent.mu.Unlock()
				select {
				case <-stop:
					return
				default:
				}
			}
			agent.set(func(*fakeAgent) {})
		}()
		a := n.mustCall(call{
			command: "ADD", container: "c1", netns: pod.netns, ifName: "eth0",
			args: "K8S_POD_NAMESPACE=" + namespace + ";K8S_POD_NAME=p", stdin: conf("0.3.0", agent.socket, withResult("")),
		})
		close(stop)
		if a.status != 0 || a.stdout != prevResult || a.stderr != "" {
			t.Errorf("%s: status %d, stdout %q, stderr %q", namespace, a.status, a.stdout, a.stderr)
		}
		if got := agent.taken(); len(got) < 3 {
			t.Errorf("%s: the agent was asked %d times", namespace, len(got))
		}
	}
}

func TestAddWaitsForAnAgentOnlyIfOneHasRun(t *testing.T) {
	n, agent := newNode(t), newAgent(t)
	pod := n.sandbox("azv1")
	dir := t.TempDir()
	for _, has := range []bool{true, false} {
		socket := filepath.Join(dir, fmt.Sprint(has))
		if has {
			if err := os.WriteFile(socket+api.LockSuffix, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var linking sync.WaitGroup
		linking.Go(func() { // longer than a program needs to start
			time.Sleep(2 * time.Second)
			if err := os.Symlink(agent.socket, socket); err != nil {
				t.Error(err)
			}
		})
		a := n.mustCall(call{
			command: "ADD", container: "c1", netns: pod.netns, ifName: "eth0", args: podOfShop, stdin: conf("0.3.0", socket, withResult("")),
		})
		linking.Wait()
		if has && (a.status != 0 || a.stdout != prevResult) || !has && a.Code != 11 {
			t.Errorf("an agent has run: %t: %+v", has, a)
		}
	}
}
