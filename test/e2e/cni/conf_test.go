package cni

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/azurecni"
	"github.com/overland-net/overland/test/lab/labtest"
)

const azureList = "/etc/cni/net.d/" + azurecni.ConflistName

// writeAzure writes Azure's list anew on the near node, as its installers do.
func writeAzure(t *testing.T, text string) {
	t.Helper()
	lab.MustNodeExec(t, near, "sh", "-ec", `printf %s "$1" >/etc/cni/net.d/.azure; mv /etc/cni/net.d/.azure `+azureList, "sh", text)
}

// ours waits until our list on the near node is derived from Azure's, with a mark
// that it has; or, if the mark is empty, until it is not there.
func ours(t *testing.T, mark string) {
	t.Helper()
	labtest.Until(t, fmt.Sprintf("our list with %q", mark), func(context.Context) (string, bool) {
		out := lab.NodeExec(t, near, "cat", ourList)
		if mark == "" {
			return out.String(), out.Code != 0
		}
		return out.String(), strings.Contains(out.Stdout, mark) && strings.Contains(out.Stdout, `"overland-cni"`)
	})
}

// agentSays waits until the log of the near node's agent has a text, after the
// first skip characters of it.
func agentSays(t *testing.T, skip int, want string) {
	t.Helper()
	labtest.Until(t, fmt.Sprintf("the agent to say %q", want), func(context.Context) (string, bool) {
		text := agentLog(t)
		if len(text) < skip {
			skip = 0
		}
		return text[max(skip, len(text)-2000):], strings.Contains(text[skip:], want)
	})
}

func agentLog(t *testing.T) string {
	t.Helper()
	return west().Kubectl(t, "logs", "--namespace=overland-system", agentPod(t, near)).Stdout
}

// TestCNIAzuresListChanges: pods start meanwhile, and what is denied is denied; and
// whatever is wrong with it, the agent says what to do and all is well afterwards.
func TestCNIAzuresListChanges(t *testing.T) {
	s := onScene(t)
	good := lab.MustNodeExec(t, near, "cat", azureList)
	t.Cleanup(func() { writeAzure(t, good); ours(t, `"azure"`) })

	t.Run("again and again while pods start", func(t *testing.T) {
		const pods = 10
		s.spray()
		before := s.arrived()
		stop, writes := make(chan struct{}), make(chan int)
		go func() {
			n := 0
			for ; ; n++ {
				select {
				case <-stop:
					writes <- n
					return
				case <-time.After(100 * time.Millisecond):
					writeAzure(t, strings.Replace(good, `"name"`, fmt.Sprintf(`"mark": "%d", "name"`, n), 1))
				}
			}
		}()
		s.shooters("rewritten", "shut", "Never", pods)
		shots := s.shots("rewritten", pods)
		close(stop)
		t.Logf("Azure's list was written %d times", <-writes)
		s.silent(shots, before)
	})
	for _, tt := range []struct{ name, text, says string }{
		{"no JSON", `{"cniVersion": "0.3.0", "plug`, "is not a valid list of plugins"},
		{"empty", "", "valid list of plugins"},
		{"another mode", strings.Replace(good, "transparent", "bridge", 1), "mode transparent is expected"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seen := len(agentLog(t))
			writeAzure(t, tt.text)
			agentSays(t, seen, tt.says)
			ours(t, "")
			writeAzure(t, strings.Replace(good, `"name"`, `"mark": "after `+tt.name+`", "name"`, 1))
			ours(t, "after "+tt.name)
		})
	}
	t.Run("removed and put back", func(t *testing.T) {
		lab.MustNodeExec(t, near, "rm", azureList)
		ours(t, "")
		writeAzure(t, good)
		ours(t, `"azure"`)
	})
	t.Run("a folder that is full", func(t *testing.T) { unwritable(t, good, "size=16k", "full") })
	s.shooters("after", "friend", "Never", 1)
	s.reached(s.shots("after", 1))
}

// unwritable puts a small file system over the folder of lists, and starts the agent
// anew, which has it then, too.
func unwritable(t *testing.T, good, options, says string) {
	lab.MustNodeExec(t, near, "sh", "-ec", `mount -t tmpfs -o `+options+` none /etc/cni/net.d; printf %s "$1" >`+azureList+`; cat /dev/zero >/etc/cni/net.d/fill 2>/dev/null || true`, "sh", good)
	mounted := true
	unmount := func() {
		if mounted {
			lab.MustNodeExec(t, near, "umount", "-l", "/etc/cni/net.d")
			newAgent(t)
		}
		mounted = false
	}
	t.Cleanup(unmount)
	newAgent(t)
	agentSays(t, 0, says)
	lab.MustNodeExec(t, near, "rm", "/etc/cni/net.d/fill")
	ours(t, `"azure"`) // it goes on trying
	unmount()
	ours(t, `"azure"`)
}

// newAgent replaces the agent of the near node.
func newAgent(t *testing.T) {
	t.Helper()
	now, old := int64(0), agentPod(t, near)
	if err := west().Client.CoreV1().Pods("overland-system").Delete(context.WithoutCancel(t.Context()), old, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	labtest.Until(t, "another agent", func(context.Context) (string, bool) {
		name := agentPod(t, near)
		return name, name != old
	})
	west().In(t, "overland-system").Pod(agentPod(t, near))
	enforcing(t, near)
}

// TestCNIWithoutTheDaemonSet: pods are refused with a message that says so, those of
// the namespaces that a node needs to be repaired start, and cleanup makes it as if
// nothing had been.
func TestCNIWithoutTheDaemonSet(t *testing.T) {
	s := onScene(t)
	system := west().In(t, "kube-system")
	t.Cleanup(func() {
		if err := lab.InstallOverland(); err != nil {
			t.Error(err)
		}
		enforcing(t, near)
		ours(t, `"azure"`)
	})
	if out := west().Kubectl(t, "delete", "daemonset", "--namespace=overland-system", "overland-agent", "--wait"); out.Code != 0 {
		t.Fatal(out)
	}
	labtest.Until(t, "no agent on "+near, func(context.Context) (string, bool) {
		pid := lab.AgentProcess(t, near)
		return fmt.Sprint(pid), pid == 0
	})
	bound := func(name string) string {
		return strings.NewReplacer("NAME", name, "IS", "open").Replace(boundText)
	}
	s.n.Apply(bound("ordinary"))
	system.Apply(bound("system"))
	t.Cleanup(func() { west().Kubectl(t, "delete", "pod", "system", "--namespace=kube-system", "--grace-period=1") })
	system.Pod("system")
	s.n.Wait("a refusal with code 11", func(ctx context.Context) (string, bool, error) {
		events, err := s.n.Client.CoreV1().Events(s.n.Name).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=ordinary,reason=FailedCreatePodSandBox"})
		if err != nil {
			return "", false, err
		}
		for _, e := range events.Items {
			if strings.Contains(e.Message, "is overland-agent running on this node") {
				t.Logf("the event: %s", e.Message)
				return "", true, nil
			}
		}
		return fmt.Sprint(len(events.Items), " events"), false, nil
	})
	// The real program in the node's namespaces, as its documentation says.
	out := lab.NodeExec(t, near, "overland-agent", "cleanup")
	if out.Code != 0 {
		t.Fatal(out)
	}
	t.Log(out.Stdout)
	left := lab.MustNodeExec(t, near, "sh", "-c", "ls -A /etc/cni/net.d /opt/cni/bin")
	if strings.Contains(left, "overland") {
		t.Errorf("left after cleanup:\n%s", left)
	}
	s.n.Pod("ordinary")
}
