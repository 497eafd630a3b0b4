package identity

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestIdentityTheRemoteRoleReadsOnlyWhatIsUsed asks the API server, not the
// manifests.
func TestIdentityTheRemoteRoleReadsOnlyWhatIsUsed(t *testing.T) {
	list := mustKubectl(t, canada(), "auth", "can-i", "--list", "--as=system:serviceaccount:"+system+":overland-remote-west",
		"--as-group=system:serviceaccounts", "--as-group=system:authenticated")
	allowed := map[string]string{}
	for _, line := range strings.Split(list, "\n")[1:] {
		at := strings.LastIndexByte(line, '[')
		if at < 0 || strings.HasPrefix(line, " ") {
			continue // paths that are not resources
		}
		allowed[strings.Fields(line)[0]] = line[at:]
	}
	want := map[string]string{
		"pods": "[get list watch]", "namespaces": "[get list watch]", "nodes": "[get list watch]",
		"services": "[get list watch]", "endpointslices.discovery.k8s.io": "[get list watch]",
	}
	for resource, verbs := range want {
		if allowed[resource] != verbs {
			t.Errorf("on %s it has %q, not %q", resource, allowed[resource], verbs)
		}
		delete(allowed, resource)
	}
	for resource, verbs := range allowed {
		// What every service account may do: ask about itself, and read the
		// certificates that are published for all.
		itself := verbs == "[create]" && strings.Contains(resource, "self")
		if !itself && resource != "clustertrustbundles.certificates.k8s.io" {
			t.Errorf("it may also %s %s", verbs, resource)
		}
	}
	for _, question := range []string{
		"secrets", "configmaps", "endpoints", "serviceaccounts", "networkpolicies.networking.k8s.io", "remoteclusters.overland.dev",
		"pods --subresource=log", "pods --subresource=exec", "serviceaccounts --subresource=token",
	} {
		for _, verb := range []string{"get", "list", "watch", "create", "update", "delete"} {
			args := append([]string{"auth", "can-i", verb}, strings.Fields(question)...)
			out := canada().Kubectl(t, append(args, "--all-namespaces", "--as=system:serviceaccount:"+system+":overland-remote-west")...)
			if out.Code == 0 {
				t.Errorf("it may %s %s", verb, question)
			}
		}
	}
}

func TestIdentityTheAgentReadsSecretsInItsOwnNamespaceOnly(t *testing.T) {
	account := "--as=system:serviceaccount:" + system + ":overland-agent"
	for _, tt := range []struct {
		verb, resource, namespace string
		allowed                   bool
	}{
		{"watch", "secrets", system, true},
		{"get", "secrets", "kube-system", false},
		{"list", "secrets", "default", false},
		{"update", "secrets", system, false},
		{"update", "remoteclusters.overland.dev --subresource=status", "", true},
		{"update", "remoteclusters.overland.dev", "", false},
		{"create", "pods --subresource=exec", system, false},
		{"update", "pods", "default", false},
		{"list", "pods", "default", true},
		{"list", "networkpolicies.networking.k8s.io", "default", true},
		{"list", "services", "default", true},
		{"update", "services", "default", false},
		{"patch", "services", "default", false},
		{"patch", "services --subresource=status", "default", true},
		{"update", "services --subresource=status", "default", false},
		{"update", "endpointslices.discovery.k8s.io", "default", true},
		{"patch", "endpointslices.discovery.k8s.io", "default", false},
		{"create", "endpoints", "default", true},
		{"deletecollection", "endpoints", "default", false},
		{"update", "leases.coordination.k8s.io/overland-leader", system, true},
		{"update", "leases.coordination.k8s.io/another", system, false},
		{"update", "leases.coordination.k8s.io", "kube-system", false},
		{"patch", "namespaces/default", "", false},
		{"create", "events.events.k8s.io", "default", true},
		{"delete", "events.events.k8s.io", "default", false},
		{"create", "events", "default", false},
	} {
		args := append([]string{"auth", "can-i", tt.verb}, strings.Fields(tt.resource)...)
		out := west().Kubectl(t, append(args, "--namespace="+tt.namespace, account)...)
		if (out.Code == 0) != tt.allowed {
			t.Errorf("%s %s in %q: allowed is %v", tt.verb, tt.resource, tt.namespace, out.Code == 0)
		}
	}
}

// TestIdentityTheAgentHasNoMoreRightsOnTheNodeThanItNeeds looks at the process.
func TestIdentityTheAgentHasNoMoreRightsOnTheNodeThanItNeeds(t *testing.T) {
	pid := lab.AgentProcess(t, "west/node-1")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"CapEff", "CapPrm", "CapBnd"} {
		if !strings.Contains(string(status), set+":\t0000000000003000\n") {
			t.Errorf("the agent has other capabilities than NET_ADMIN and NET_RAW:\n%s", status)
			break
		}
	}
	if !strings.Contains(string(status), "NoNewPrivs:\t1") {
		t.Error("the agent may gain privileges")
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", pid))
	if err != nil {
		t.Fatal(err)
	}
	root := ""
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == "/" {
			root = f[3] // the last one is what is seen
		}
	}
	if !strings.HasPrefix(root, "ro") {
		t.Errorf("its root is mounted %q", root)
	}
}

func leader(t *testing.T) string {
	t.Helper()
	lease, err := west().Client.CoordinationV1().Leases(system).Get(t.Context(), "overland-leader", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

func TestIdentityStatusIsWrittenByOneAgentAndAnotherTakesOver_4_11(t *testing.T) {
	first := leader(t)
	if first == "" {
		t.Fatal("nobody leads")
	}
	pod, err := west().Client.CoreV1().Pods(system).Get(t.Context(), first, metav1.GetOptions{})
	if err != nil {
		t.Fatalf("the leader is not an agent's pod: %v", err)
	}
	node := "west/" + pod.Spec.NodeName
	until(t, "the leader to write the status", func(context.Context) (string, bool) {
		by := remote(t, west(), "canada").Status.ObservedBy
		return by, by == pod.Spec.NodeName
	})
	// Gone for longer than a lease: the kubelet would start it at once.
	mustKubectl(t, west(), "label", "node", strings.TrimPrefix(node, "west/"), "overland-test=away")
	t.Cleanup(func() {
		mustKubectl(t, west(), "patch", "daemonset", "overland-agent", "-n", system, "--type=merge",
			"-p", `{"spec":{"template":{"spec":{"affinity":null}}}}`)
		mustKubectl(t, west(), "label", "node", strings.TrimPrefix(node, "west/"), "overland-test-")
		mustKubectl(t, west(), "rollout", "status", "daemonset/overland-agent", "-n", system, "--timeout=90s")
	})
	mustKubectl(t, west(), "patch", "daemonset", "overland-agent", "-n", system, "--type=merge", "-p",
		`{"spec":{"template":{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"overland-test","operator":"DoesNotExist"}]}]}}}}}}}`)
	began := time.Now()
	until(t, "another leader than "+first, func(context.Context) (string, bool) {
		now := leader(t)
		return now, now != "" && now != first
	})
	t.Logf("another agent led %.1f s after the first was told to go", time.Since(began).Seconds())
	lab.CutAPI(t, "west", "canada")
	until(t, "the new leader to write the status", func(context.Context) (string, bool) {
		text := mustKubectl(t, west(), "get", "rcl", "canada")
		return text, strings.Contains(text, "OutOfContact") || strings.Contains(text, "Unreachable")
	})
	lab.Heal(t, "west", "canada")
}
