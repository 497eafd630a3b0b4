package cni

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// podsVariable is how many pods the test of first packets starts. Each costs half a
// second on two cores, so that by default they are a few.
const podsVariable = "OVERLAND_E2E_CNI_PODS"

const defaultPods = 40

// atOnce is how many pods are started together: what two cores can do while the
// first of them still send.
const atOnce = 20

// TestCNINoPacketPassesBeforePolicy: pods that at once connect out, and listen,
// under policies that forbid both. The last pods show that it would be seen. Each pod
// is one of both kinds.
func TestCNINoPacketPassesBeforePolicy(t *testing.T) {
	count := defaultPods
	if text := os.Getenv(podsVariable); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	s := onScene(t)
	s.spray()
	before := s.arrived()
	var all []shot
	for done := 0; done < count; done += atOnce {
		wave := fmt.Sprintf("shut%d", done)
		n := min(atOnce, count-done)
		s.shooters(wave, "shut", "Never", n)
		all = append(all, s.shots(wave, n)...)
		s.gone(wave)
	}
	s.silent(all, before)
	const controls = 6
	s.shooters("open", "open", "Never", controls)
	for _, shot := range s.shots("open", controls) {
		if shot.status != "0 0 0 0" || shot.heard == 0 || shot.sprayed == 0 {
			t.Errorf("pod %s, which nothing restricts, got %d packets, %d of those that are sent to all; its attempts ended with %s",
				shot.pod, shot.heard, shot.sprayed, shot.status)
		}
	}
	if n := s.arrived() - before; n < 4*controls {
		t.Errorf("%d packets arrived of %d pods that nothing restricts: the test would not see what passes", n, controls)
	}
}

// gone deletes the pods of a wave.
func (s *scene) gone(wave string) {
	s.t.Helper()
	now := int64(0)
	err := s.n.Client.CoreV1().Pods(s.n.Name).DeleteCollection(context.WithoutCancel(s.t.Context()), metav1.DeleteOptions{GracePeriodSeconds: &now},
		metav1.ListOptions{LabelSelector: labels.Set{"wave": wave}.String()})
	if err != nil {
		s.t.Fatal(err)
	}
}

// lastAddress is what a pod of the near node got last.
func lastAddress(t *testing.T, family int) netip.Addr {
	t.Helper()
	var state struct {
		Last4, Last6 netip.Addr
	}
	text := lab.NodeExec(t, near, "cat", "/var/lib/azure-vnet/ipam.json").Stdout
	if err := json.Unmarshal([]byte(text), &state); err != nil {
		t.Errorf("read %q: %v", text, err)
	}
	if family == 4 {
		return state.Last4
	}
	return state.Last6
}

func first(family int) netip.Addr {
	pods := west().Nodes[0].Pods
	if family == 4 {
		return pods.V4.First
	}
	return pods.V6.First
}

// contains tells whether a pod of the near node can get an address.
func contains(family int, a netip.Addr) bool {
	pods := west().Nodes[0].Pods
	last := pods.V6.Last
	if family == 4 {
		last = pods.V4.Last
	}
	return !last.Less(a)
}
