package kubelet

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

func TestOnlyTheAPIServerAndAdministratorsAreLetIn(t *testing.T) {
	state := func(name string, groups ...string) *tls.ConnectionState {
		cert := &x509.Certificate{Subject: pkix.Name{CommonName: name, Organization: groups}}
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
	}
	for name, c := range map[string]struct {
		state *tls.ConnectionState
		want  int
	}{
		"no certificate":  {&tls.ConnectionState{}, http.StatusUnauthorized},
		"no TLS":          {nil, http.StatusUnauthorized},
		"the API server":  {state(apiServer), http.StatusOK},
		"an admin":        {state("me", "system:masters"), http.StatusOK},
		"another kubelet": {state("system:node:node-2", "system:nodes"), http.StatusForbidden},
	} {
		if got, _ := allowed(c.state); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestLogOptions(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	o, previous, err := logOptions(httptest.NewRequest("GET", "/x?follow=true&tailLines=5&limitBytes=9&timestamps=true&previous=true&sinceSeconds=60", nil), now)
	if err != nil || !o.Follow || *o.TailLines != 5 || *o.LimitBytes != 9 || !o.Timestamp || !previous || !o.Since.Equal(now.Add(-time.Minute)) {
		t.Errorf("%+v, %v, %v", o, previous, err)
	}
	for _, bad := range []string{"follow=maybe", "tailLines=x", "sinceTime=yesterday"} {
		if _, _, err := logOptions(httptest.NewRequest("GET", "/x?"+bad, nil), now); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestNodeIsNotReadyWithoutANetwork(t *testing.T) {
	run := newFakeRuntime()
	b := start(t, run)
	n := newNode(b.k)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	run.network = errors.New("no conflist in /etc/cni/net.d")
	before := v1.NodeStatus{Conditions: []v1.NodeCondition{{Type: "Foreign", Status: v1.ConditionTrue}}}
	down, err := n.status(before, now)
	if err != nil {
		t.Fatal(err)
	}
	run.network = nil
	up, err := n.status(down, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	find := func(s v1.NodeStatus, kind v1.NodeConditionType) v1.NodeCondition {
		for _, c := range s.Conditions {
			if c.Type == kind {
				return c
			}
		}
		return v1.NodeCondition{}
	}
	if c := find(down, v1.NodeReady); c.Status != v1.ConditionFalse || c.Reason != "KubeletNotReady" || !strings.Contains(c.Message, "NetworkPluginNotReady") {
		t.Errorf("%+v", c)
	}
	if c := find(up, v1.NodeReady); c.Status != v1.ConditionTrue || !c.LastTransitionTime.Equal(&c.LastHeartbeatTime) {
		t.Errorf("%+v", c)
	}
	if c := find(up, v1.NodeMemoryPressure); !c.LastTransitionTime.Time.Equal(now) {
		t.Errorf("the time of the change was lost: %+v", c)
	}
	if find(up, "Foreign").Status != v1.ConditionTrue {
		t.Error("another's condition was dropped")
	}
	if up.NodeInfo.KubeletVersion != Version || up.Addresses[0].Address != "10.1.0.4" || len(up.DeclaredFeatures) > 0 {
		t.Errorf("%+v", up)
	}
}

func TestConfigurationIsCheckedAndCompleted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubelet.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("nodeName: n\naddresses: [10.1.0.4, 'fd00::4']\nkubeconfig: /k\ncrashBackoff: 1s\nruntime: {Dir: /run/lab}\n")
	c, err := Load(path)
	if err != nil || c.MaxPods != 110 || c.ClusterDomain != "cluster.local" || c.CrashBackoff.Duration != time.Second || c.Runtime.Dir != "/run/lab" {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{"nodeName: n\n", "nodeNmae: n\n"} {
		write(bad)
		if _, err := Load(path); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
