package cni

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	corev1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/test/lab/labtest"
	"github.com/overland-net/overland/test/lab/netprobe"
)

const ourList = "/etc/cni/net.d/05-overland.conflist"

const boundText = `
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {is: IS}}
spec:
  nodeName: node-1
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: busybox, command: [sleep, "3600"]}]
---
`

// bound are pods that an API server has bound to the near node and no kubelet runs:
// that one is stopped until the test ends.
func (s *scene) bound(is string, names ...string) []*labtest.Pod {
	s.t.Helper()
	lab.Stop(s.t, near+"/kubelet")
	var pods []*labtest.Pod
	for _, name := range names {
		s.n.Apply(strings.NewReplacer("NAME", name, "IS", is).Replace(boundText))
		pods = append(pods, s.n.PodWhen(name, "bound", func(p *corev1.Pod) bool { return p.Spec.NodeName != "" }))
	}
	return pods
}

// TestCNICallsInAnyOrder: of a runtime that forgets, repeats, and comes late.
func TestCNICallsInAnyOrder(t *testing.T) {
	s := onScene(t)
	friend, shut := s.bound("friend", "friend")[0], s.bound("shut", "shut")[0]
	cni := lab.NewCNI(t, near)
	list := cni.List(ourList)
	var made []*libcni.RuntimeConf
	attachment := func(id string, p *labtest.Pod) *libcni.RuntimeConf {
		rt := cni.Attachment(id, p)
		made = append(made, rt)
		return rt
	}
	add := func(rt *libcni.RuntimeConf) {
		t.Helper()
		if _, err := cni.Add(t.Context(), list, rt); err != nil {
			t.Fatalf("ADD of %s: %v", rt.ContainerID, err)
		}
	}
	del := func(rt *libcni.RuntimeConf) {
		t.Helper()
		if err := cni.Del(t.Context(), list, rt); err != nil {
			t.Errorf("DEL of %s: %v", rt.ContainerID, err)
		}
	}
	sinks := []string{labtest.Target("tcp", s.sinks[0].Address(4).String(), sinkPort), labtest.Target("tcp", s.sinks[0].Address(6).String(), sinkPort)}
	reaches := func(rt *libcni.RuntimeConf, kind netprobe.Kind) {
		t.Helper()
		for _, sink := range sinks {
			labtest.Expect(t, labtest.Probe{From: cni.From(rt), To: sink, Want: labtest.Want{Kind: kind}})
		}
	}
	for name, p := range map[string]struct {
		pod  *labtest.Pod
		want netprobe.Kind
	}{"friend": {friend, ""}, "shut": {shut, netprobe.KindTimeout}} {
		old, young, next := attachment(name+"-old", p.pod), attachment(name+"-young", p.pod), attachment(name+"-next", p.pod)
		add(old)
		reaches(old, p.want)
		add(young) // before the old DEL; the interface's name is the same
		reaches(young, p.want)
		del(old)
		reaches(young, p.want)
		del(old)
		reaches(young, p.want)
		del(young)
		del(young)
		add(next) // the kubelet's next attempt
		reaches(next, p.want)
		del(young)
		reaches(next, p.want)
		del(next)
	}
	del(&libcni.RuntimeConf{ContainerID: "never", IfName: "eth0", Args: [][2]string{{"K8S_POD_NAMESPACE", s.n.Name}, {"K8S_POD_NAME", "never"}}})

	t.Run("a pod that is not there any more", func(t *testing.T) {
		for name, change := range map[string]func(*labtest.Pod){
			"its successor is":  func(p *labtest.Pod) { p.UID = "6b9e2f0e-0000-4000-8000-000000000000" },
			"none of that name": func(p *labtest.Pod) { p.Name = "vanished" },
		} {
			p := *friend
			change(&p)
			rt := attachment(strings.Fields(name)[0]+"-gone", &p)
			began := time.Now()
			_, err := cni.Add(t.Context(), list, rt)
			var refused *types.Error
			if !errors.As(err, &refused) || refused.Code != types.ErrTryAgainLater || !strings.Contains(refused.Error(), "there is no such pod") {
				t.Errorf("%s: got %v, want code 11 that says that there is no such pod", name, err)
			}
			t.Logf("%s: refused after %s: %v", name, time.Since(began).Round(time.Millisecond), err)
			del(rt)
		}
	})
	t.Run("no agent", func(t *testing.T) {
		process := agentProcess(t, near)
		if err := process.Kill(); err != nil { // the kubelet, which would start another, is stopped
			t.Fatal(err)
		}
		_, _ = process.Wait() // it is nobody's child here
		rt := attachment("orphan", friend)
		began := time.Now()
		_, err := cni.Add(t.Context(), list, rt)
		var refused *types.Error
		if !errors.As(err, &refused) || refused.Code != types.ErrTryAgainLater {
			t.Errorf("got %v, want code 11", err)
		}
		if took := time.Since(began); took > 12*time.Second {
			t.Errorf("it took %s", took)
		}
		t.Logf("without an agent: refused after %s: %v", time.Since(began).Round(time.Millisecond), err)
		began = time.Now()
		del(rt) // never fails, and takes little
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("DEL took %s", took)
		}
		lab.Start(t, near+"/kubelet")
		enforcing(t, near)
	})
	cni.Forget(made...)
	s.n.Delete(strings.NewReplacer("NAME", "friend", "IS", "friend").Replace(boundText) + strings.NewReplacer("NAME", "shut", "IS", "shut").Replace(boundText))
	s.nothingLeaked()
}
