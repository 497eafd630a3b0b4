package cni

import (
	"context"
	"fmt"
	"regexp"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/overland-net/overland/test/lab/labtest"
)

// TestCNIARebootedNode: with twenty pods, whichever of the agent and kube-proxy
// starts first.
func TestCNIARebootedNode(t *testing.T) {
	const pods = 20
	s := onScene(t)
	s.sinks = s.sinks[1:] // the others are rebooted too
	s.shooters("quiet", "shut", "Always", pods)
	s.shots("quiet", pods)
	s.spray()
	for _, first := range []string{"agent", "kube-proxy", ""} {
		t.Run("first "+first, func(t *testing.T) {
			s.aim()
			before, ids := s.arrived(), s.containers("quiet")
			lab.Reboot(t, near, first)
			labtest.Until(t, "all pods to be Ready again", func(ctx context.Context) (string, bool) {
				n := 0
				for id, ready := range s.containers("quiet") {
					if _, old := ids[id]; ready && !old {
						n++
					}
				}
				return fmt.Sprint(n), n == pods
			})
			// The plugin before ours has connected the pod while no agent of this boot had
			// begun: what comes meanwhile finds a network namespace without a process.
			s.mute(s.shots("quiet", pods), before, false)
		})
	}
	enforcing(t, near)
	s.gone("quiet")
	// Those that were there before Overland are connected through our plugin by now.
	s.before = regexp.MustCompile(`(?s)(interfaces (\d+)\n.*attachments )\d+`).ReplaceAllString(s.before, "${1}${2}")
	s.nothingLeaked()
}

// containers are the IDs of a wave's containers, and whether each is ready.
func (s *scene) containers(wave string) map[string]bool {
	s.t.Helper()
	list, err := s.n.Client.CoreV1().Pods(s.n.Name).List(context.WithoutCancel(s.t.Context()), metav1.ListOptions{LabelSelector: labels.Set{"wave": wave}.String()})
	if err != nil {
		s.t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, p := range list.Items {
		status := p.Status.ContainerStatuses[0]
		ids[status.ContainerID] = status.Ready
	}
	return ids
}
