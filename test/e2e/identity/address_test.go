package identity

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/labtest"
)

// forge makes a pod on a node that does not exist and says for it what no
// kubelet would: its addresses.
func forge(t *testing.T, n *labtest.Namespace, name string, addresses ...string) {
	t.Helper()
	zero := int64(0)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"forged": "yes"}},
		Spec: corev1.PodSpec{
			NodeName: "ghost", TerminationGracePeriodSeconds: &zero,
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers:  []corev1.Container{{Name: "none", Image: "pause"}},
		},
	}
	pods := n.Client.CoreV1().Pods(n.Name)
	made, err := pods.Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = pods.Delete(context.Background(), name, metav1.DeleteOptions{GracePeriodSeconds: &zero}) // with its namespace else
	})
	made.Status.Phase = corev1.PodRunning
	made.Status.PodIP = addresses[0]
	for _, a := range addresses {
		made.Status.PodIPs = append(made.Status.PodIPs, corev1.PodIP{IP: a})
	}
	if _, err := pods.UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestIdentityARemoteClaimsNoAddressThatIsNotItsOwn_1_5(t *testing.T) {
	_, locals := deployed(t, west())
	_, remotes := deployed(t, canada())
	n := canada().NewNamespace(t, "forged")
	westNode := west().Nodes[0].Addresses.V4.String()
	canadaNode := canada().Nodes[0].Addresses.V4.String()
	for name, tt := range map[string]struct{ address, reason string }{
		"local-pod":    {locals[0].Address(4).String(), "LocalRange"},
		"local-pod-6":  {locals[0].Address(6).String(), "LocalRange"},
		"local-range":  {"10.1.1.251", "LocalRange"},
		"local-node":   {westNode, "LocalNodeAddress"},
		"own-node":     {canadaNode, "OutsideRanges"},
		"outside":      {"203.0.113.10", "OutsideRanges"},
		"wire-server":  {"168.63.129.16", "ReservedAddress"},
		"link-local":   {"169.254.169.254", "ReservedAddress"},
		"loopback":     {"127.0.0.1", "ReservedAddress"},
		"multicast":    {"224.0.0.1", "ReservedAddress"},
		"link-local-6": {"fe80::1", "ReservedAddress"},
	} {
		forge(t, n, name, tt.address)
		t.Run(name, func(t *testing.T) {
			key := fmt.Sprintf("Pod canada/%s/%s", n.Name, name)
			until(t, key+" to be refused", func(ctx context.Context) (string, bool) {
				w, err := snapshot(ctx, "west/node-1")
				if err != nil {
					return err.Error(), false
				}
				k, ok := w[key]
				return fmt.Sprintf("%v %+v", ok, k), ok && len(k.Addresses) == 0 && slices.Equal(k.Refused, []string{tt.address + " " + tt.reason})
			})
		})
	}
	// Inside a cluster the newer pod has it: it may be the same address, given
	// out again while the old pod is still shown.
	address := remotes[0].Address(4).String()
	forge(t, n, "newer", address)
	t.Run("another pod's address", func(t *testing.T) {
		until(t, "the older pod to lose the address", func(ctx context.Context) (string, bool) {
			w, err := snapshot(ctx, "west/node-1")
			if err != nil {
				return err.Error(), false
			}
			older := w["Pod "+remotes[0].String()]
			return fmt.Sprintf("%+v", older), slices.Contains(older.Refused, address+" Duplicate")
		})
	})
	out := lab.Overland(t, "west/node-1", "clusters", "-o", "wide")
	if out.Code != 0 || !strings.Contains(out.Stdout, "canada") {
		t.Errorf("clusters: %s", out)
	}
	c, err := clusterOn(t.Context(), "west/node-1", "canada")
	if err != nil || c.RefusedTotal < 10 {
		t.Errorf("%d refused addresses are counted: %+v, %v", c.RefusedTotal, c.Refused, err)
	}
}

func TestIdentityAddressesOutsideTheDeclaredRangesAreRefused_1_2(t *testing.T) {
	deployed(t, canada())
	untilTruth(t)
	ranges := remote(t, west(), "canada").Spec.PodCIDRs
	set := func(to []string) {
		t.Helper()
		quoted := `["` + strings.Join(to, `","`) + `"]`
		mustKubectl(t, west(), "patch", "rcl", "canada", "--type=merge", "-p", `{"spec":{"podCIDRs":`+quoted+`}}`)
	}
	t.Cleanup(func() { set(ranges) })
	// One family listed: the other's addresses are refused too.
	set([]string{"10.2.1.0/24"})
	until(t, "what is outside to be refused", func(ctx context.Context) (string, bool) {
		w, err := snapshot(ctx, "west/node-1")
		if err != nil {
			return err.Error(), false
		}
		for name, k := range canadas(w) {
			if !strings.HasPrefix(name, "Pod ") {
				continue
			}
			for _, a := range k.Addresses {
				if !strings.HasPrefix(a, "10.2.1.") {
					return name + " has " + a, false
				}
			}
		}
		return "", true
	})
	set(ranges)
	untilTruth(t)
}
