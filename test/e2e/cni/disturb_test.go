package cni

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/test/lab/labtest"
)

// TestCNINoPacketPassesWhileAgentsDie: again and again, at any moment.
func TestCNINoPacketPassesWhileAgentsDie(t *testing.T) {
	const pods, waves, enough = 16, 5, 3
	s := onScene(t)
	s.spray()
	before := s.arrived()
	var killed atomic.Int32
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		torment(t, near, stop, &killed)
	}()
	var all []shot
	for i := 0; i < waves && killed.Load() < enough; i++ { // a fast machine has started all pods soon
		wave := fmt.Sprintf("dying%d", i)
		s.shooters(wave, "shut", "Never", pods)
		all = append(all, s.shots(wave, pods)...)
		s.gone(wave)
	}
	close(stop)
	<-stopped
	s.silent(all, before)
	t.Logf("%d agents were killed meanwhile", killed.Load())
	if killed.Load() < enough {
		t.Errorf("only %d agents were killed meanwhile", killed.Load())
	}
	enforcing(t, near)
	s.nothingLeaked()
}

// torment kills the agents of a node, each within three seconds of its beginning,
// until it is told to stop. Each gets a new pod, since the kubelet waits
// longer and longer before it starts a container again.
func torment(t *testing.T, node string, stop <-chan struct{}, killed *atomic.Int32) {
	t.Helper()
	now := int64(0)
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(200+rand.IntN(2800)) * time.Millisecond):
		}
		pod := agentPod(t, node)
		pid := lab.AgentProcess(t, node)
		if pid == 0 {
			continue
		}
		if err := agentProcess(t, node).Kill(); err != nil {
			t.Error(err)
		}
		err := west().Client.CoreV1().Pods("overland-system").Delete(context.WithoutCancel(t.Context()), pod, metav1.DeleteOptions{GracePeriodSeconds: &now})
		if err != nil {
			t.Error(err)
		}
		killed.Add(1)
		labtest.Until(t, "another agent on "+node, func(ctx context.Context) (string, bool) {
			_, err := labtest.AskAgent[api.Status](ctx, lab, node, api.PathStatus)
			again := lab.AgentProcess(t, node)
			return fmt.Sprint(again, err), err == nil && again != 0 && again != pid
		})
	}
}

// agentPod is the name of the agent's pod on a node.
func agentPod(t *testing.T, node string) string {
	t.Helper()
	var name string
	labtest.Until(t, "an agent's pod on "+node, func(ctx context.Context) (string, bool) {
		list, err := west().Client.CoreV1().Pods("overland-system").List(ctx, metav1.ListOptions{
			FieldSelector: "spec.nodeName=" + strings.TrimPrefix(node, "west/"),
		})
		if err != nil {
			return err.Error(), false
		}
		for _, p := range list.Items {
			if p.DeletionTimestamp == nil {
				name = p.Name
			}
		}
		return "none", name != ""
	})
	return name
}

// TestCNIWithoutTheAPIServer: the sandboxes of pods are made anew during an outage.
// What is denied is denied from the first packet, and what is allowed reaches a
// peer on the same node with the first packet, from an address that no API server
// has heard of; also with an agent that has never seen the API server.
func TestCNIWithoutTheAPIServer(t *testing.T) {
	const pods = 6
	s := onScene(t)
	s.shooters("quiet", "shut", "Always", pods)
	s.shooters("known", "friend", "Always", pods)
	s.shots("quiet", pods)
	s.reached(s.shots("known", pods))
	s.spray()
	before := s.arrived()
	lab.Stop(t, "west/kube-apiserver")
	t.Cleanup(func() { startAPIServer(t) }) // before the namespace is removed
	s.remake("quiet", pods, 1)
	s.silent(s.told("quiet", pods, 1), before)
	s.remake("known", pods, 1)
	s.reached(s.told("known", pods, 1))

	pid := lab.AgentProcess(t, near)
	if err := agentProcess(t, near).Kill(); err != nil {
		t.Fatal(err)
	}
	labtest.Until(t, "another agent", func(ctx context.Context) (string, bool) {
		now := lab.AgentProcess(t, near)
		return fmt.Sprint(now), now != 0 && now != pid
	})
	before = s.arrived()
	s.remake("quiet", pods, 2)
	s.silent(s.told("quiet", pods, 2), before)
	s.remake("known", pods, 2)
	s.reached(s.told("known", pods, 2))
}

func startAPIServer(t *testing.T) {
	t.Helper()
	lab.Start(t, "west/kube-apiserver")
	labtest.Until(t, "the API server", func(ctx context.Context) (string, bool) {
		_, err := west().Client.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{})
		return fmt.Sprint(err), err == nil
	})
}

// remake takes the network namespaces of a wave's pods away, so that the kubelet
// makes their sandboxes anew, and waits until the containers have told for the nth
// time. It needs nothing of the API server.
func (s *scene) remake(wave string, count, nth int) {
	s.t.Helper()
	out := lab.MustNodeExec(s.t, near, "sh", "-ec", fmt.Sprintf(`
		for record in $(grep -l '"Namespace":"%s","Name":"%s-' /run/lab/runtime/sandboxes/*/sandbox.json); do
			space=$(grep -o '"NetNS":"[^"]*"' $record | cut -d'"' -f4)
			mountpoint -q $space || continue
			echo $space
			all=$(ip netns pids ${space##*/})
			umount -l $space
			kill -9 $all || true # else the kubelet sees it only within a minute
		done`, s.n.Name, wave))
	if n := strings.Count(out, "\n"); n != count {
		s.t.Fatalf("%d pods had network namespaces, not %d:\n%s", n, count, out)
	}
	labtest.Until(s.t, fmt.Sprintf("%d pods %s to have told for the time %d", count, wave, nth), func(context.Context) (string, bool) {
		n := strings.Count(s.logs(wave, nth), "\n")
		return fmt.Sprint(n), n == count
	})
}

// logs are the paths of the logs, on the node, of a wave's containers that have told
// for the nth time.
func (s *scene) logs(wave string, nth int) string {
	return lab.NodeExec(s.t, near, "sh", "-c", fmt.Sprintf("grep -l ' done ' /var/log/pods/%s_%s-*/c/%d.log", s.n.Name, wave, nth)).Stdout
}

// told is shots without the API server, for the nth time.
func (s *scene) told(wave string, count, nth int) []shot {
	s.t.Helper()
	var all []shot
	for path := range strings.Lines(s.logs(wave, nth)) {
		path = strings.TrimSpace(path)
		var text strings.Builder
		for line := range strings.Lines(lab.MustNodeExec(s.t, near, "cat", path)) {
			if words := strings.SplitN(line, " ", 4); len(words) == 4 { // time, stream, tag
				text.WriteString(words[3])
			}
		}
		all = append(all, parseShot(s.t, strings.Split(path, "/")[4], text.String()))
	}
	if len(all) != count {
		s.t.Errorf("%d pods have told, not %d", len(all), count)
	}
	return all
}
