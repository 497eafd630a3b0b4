package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

func TestLabExecRunsInTheNodesNamespacesAndHasTheCommandsStatus(t *testing.T) {
	t.Parallel()
	if out := lab.Command(t, "exec", "west/node-2", "--", "hostname"); out.Code != 0 || out.Stdout != "node-2\n" {
		t.Errorf("hostname on west/node-2: %s", out)
	}
	if out := lab.Command(t, "exec", "canada/node-1", "--", "ip", "-4", "-brief", "address", "show", "eth0"); !strings.Contains(out.Stdout, " 10.2.0.4/") {
		t.Errorf("eth0 of canada/node-1: %s", out)
	}
	if out := lab.Command(t, "exec", "west/node-1", "--", "sh", "-c", "exit 9"); out.Code != 9 {
		t.Errorf("expected 9: %s", out)
	}
	if out := lab.Command(t, "exec", "west/node-9", "--", "true"); out.Code != 1 || strings.Count(out.Stderr, "\n") != 1 || !strings.Contains(out.Stderr, "node-1") {
		t.Errorf("an unknown node should be told in one line that names the others: %s", out)
	}
}

func TestLabEnvPutsAKubectlOnThePathThatReachesTheCluster(t *testing.T) {
	t.Parallel()
	for _, c := range lab.Clusters {
		script := lab.Command(t, "env", c.Name).Stdout + "\nkubectl get nodes -o name"
		out, err := exec.CommandContext(t.Context(), "/bin/sh", "-ec", script).CombinedOutput()
		if err != nil || string(out) != "node/node-1\nnode/node-2\n" {
			t.Errorf("kubectl of %s: %v: %s", c.Name, err, out)
		}
		if got := strings.TrimSpace(lab.Command(t, "kubeconfig", c.Name).Stdout); got != c.Kubeconfig {
			t.Errorf("the kubeconfig of %s is %s, not %s", c.Name, got, c.Kubeconfig)
		}
	}
}

func TestLabStatusListsEachComponentAndNode(t *testing.T) {
	t.Parallel()
	out := lab.Command(t, "status")
	for word, times := range map[string]int{
		"west": 1, "canada": 1, "node-1": 2, "node-2": 2, "kubelet": 4, "kube-proxy": 4, "etcd": 2, "kube-apiserver": 2, "→": 2,
	} {
		if got := strings.Count(out.Stdout, word); got < times {
			t.Errorf("%q is there %d times, not %d: %s", word, got, times, out)
		}
	}
}
