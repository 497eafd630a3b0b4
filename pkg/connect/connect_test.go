package connect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/overland-net/overland/pkg/api/v1alpha1"
)

func schemaResource(group, version, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
}

type pair struct {
	west, canada *site
	faults       *faults
	out, log     bytes.Buffer
}

func newPair(t *testing.T, onWest ...runtime.Object) *pair {
	t.Helper()
	ca := testCA(t)
	p := &pair{faults: &faults{down: map[string]bool{}}}
	p.west, p.canada = newSite(t, "west", 1, p.faults, ca, onWest...), newSite(t, "canada", 2, p.faults, ca)
	return p
}

func (p *pair) connect(o Options) error {
	p.out.Reset()
	p.log.Reset()
	return Connect(context.Background(), p.west.Cluster, p.canada.Cluster, o, Output{&p.out, &p.log})
}

func (p *pair) disconnect(o DisconnectOptions) error {
	p.out.Reset()
	p.log.Reset()
	return Disconnect(context.Background(), p.west.Cluster, p.canada.Cluster, o, Output{&p.out, &p.log})
}

func (p *pair) state(t *testing.T) string {
	t.Helper()
	return "=== west\n" + p.west.state(t) + "=== canada\n" + p.canada.state(t)
}

// written is how many requests since the count was `before` may have changed
// something.
func (p *pair) writes() int {
	n := 0
	for _, s := range []*site{p.west, p.canada} {
		for _, a := range s.kube.Actions() {
			switch a.GetVerb() {
			case "create", "update", "patch", "delete":
				n++
			}
		}
		n += s.remotes.version
	}
	return n
}

func waiting() Options { return Options{Wait: 5 * time.Second} }

func TestConnectLinksBothWaysAndARepeatChangesNothing(t *testing.T) {
	p := newPair(t)
	if err := p.connect(waiting()); err != nil {
		t.Fatalf("%v\n%s", err, p.log.String())
	}
	for _, s := range []*site{p.west, p.canada} {
		r := s.remotes.objects[s.peer()]
		if r == nil || len(r.Spec.PodCIDRs) == 0 || len(r.Spec.NodeCIDRs) != 1 || string(r.Spec.ClusterLabels["region"]) != s.peer() {
			t.Errorf("%s: %+v", s.name, r)
		}
	}
	state, writes := p.state(t), p.writes()
	if err := p.connect(waiting()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(state, p.state(t)); d != "" {
		t.Errorf("a repeat changed (-before +after)\n%s", d)
	}
	if n := p.writes() - writes; n != 0 {
		t.Errorf("a repeat wrote %d times\n%s", n, p.log.String())
	}
}

func TestTheRemoteAccountMayReadNothingElse_1_2(t *testing.T) {
	p := newPair(t)
	if err := p.connect(waiting()); err != nil {
		t.Fatal(err)
	}
	role, err := p.canada.kube.RbacV1().ClusterRoles().Get(t.Context(), "overland-remote-west", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	read := []string{"get", "list", "watch"}
	want := []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods", "namespaces", "nodes", "services"}, Verbs: read},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: read},
	}
	if d := cmp.Diff(want, role.Rules); d != "" {
		t.Error(d)
	}
}

// TestConnectAgainGrantsWhatAnEarlierVersionDidNot_4_5: the role of an earlier
// version knows no Services.
func TestConnectAgainGrantsWhatAnEarlierVersionDidNot_4_5(t *testing.T) {
	p := newPair(t)
	if err := p.connect(waiting()); err != nil {
		t.Fatal(err)
	}
	state := p.state(t)
	roles := p.canada.kube.RbacV1().ClusterRoles()
	role, err := roles.Get(t.Context(), "overland-remote-west", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	role.Rules = []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods", "namespaces", "nodes"}, Verbs: []string{"get", "list", "watch"}}}
	if _, err := roles.Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	p.log.Reset()
	if err := p.connect(waiting()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(state, p.state(t)); d != "" {
		t.Errorf("(-new +connected again)\n%s", d)
	}
	if !strings.Contains(p.log.String(), "updated    ClusterRole overland-remote-west") {
		t.Errorf("it says\n%s", p.log.String())
	}
}

// TestConnectIsResumableFromEveryStep fails each request in turn, before and
// after it is carried out: a repeat ends in the same state as an undisturbed run.
func TestConnectIsResumableFromEveryStep(t *testing.T) {
	for name, o := range map[string]Options{
		"token":   waiting(),
		"ttl":     {Wait: 5 * time.Second, Token: TokenOptions{TTL: time.Hour}},
		"one way": {Wait: 5 * time.Second, OneWay: true},
	} {
		t.Run(name, func(t *testing.T) {
			clean := newPair(t)
			if err := clean.connect(o); err != nil {
				t.Fatal(err)
			}
			requests := clean.faults.count
			for at := 1; at <= requests; at++ {
				for _, late := range []bool{false, true} {
					if name != "token" && late == (at%2 == 0) {
						continue // the variants differ in a few steps: half will do
					}
					p := newPair(t)
					p.faults.at, p.faults.late = at, late
					p.west.now, p.canada.now = clean.west.now, clean.canada.now
					p.west.CA, p.canada.CA = clean.west.CA, clean.canada.CA
					first := p.connect(o)
					if err := p.connect(o); err != nil {
						t.Fatalf("request %d (late %v) failed with %v; the repeat: %v", at, late, first, err)
					}
					if d := cmp.Diff(clean.state(t), p.state(t)); d != "" {
						t.Fatalf("request %d (late %v) failed with %v; after a repeat (-clean +got)\n%s", at, late, first, d)
					}
				}
			}
		})
	}
}

func TestDisconnectIsResumableFromEveryStepAndLeavesNothing(t *testing.T) {
	count := newPair(t)
	empty := count.state(t)
	if err := count.connect(waiting()); err != nil {
		t.Fatal(err)
	}
	before := count.faults.count
	if err := count.disconnect(DisconnectOptions{}); err != nil {
		t.Fatal(err)
	}
	requests := count.faults.count - before
	if d := cmp.Diff(empty, count.state(t)); d != "" {
		t.Fatalf("left\n%s", d)
	}
	for at := 1; at <= requests; at++ {
		for _, late := range []bool{false, true} {
			p := newPair(t)
			if err := p.connect(waiting()); err != nil {
				t.Fatal(err)
			}
			p.faults.at, p.faults.late = p.faults.count+at, late
			first := p.disconnect(DisconnectOptions{})
			if err := p.disconnect(DisconnectOptions{}); err != nil {
				t.Fatalf("request %d (late %v) failed with %v; the repeat: %v", at, late, first, err)
			}
			if d := cmp.Diff(empty, p.state(t)); d != "" {
				t.Fatalf("request %d (late %v) failed with %v; after a repeat there is left\n%s", at, late, first, d)
			}
		}
	}
}

func TestOneWayTouchesOnlyTheAccountOfTheOther(t *testing.T) {
	p := newPair(t)
	p.canada.remotes.missing = true // nothing of ours is installed there
	if err := p.canada.tracker.Delete(schemaResource("", "v1", "namespaces"), "", Namespace); err != nil {
		t.Fatal(err)
	}
	o := waiting()
	o.OneWay = true
	if err := p.connect(o); err != nil {
		t.Fatalf("%v\n%s", err, p.log.String())
	}
	if p.west.remotes.objects["canada"] == nil || len(p.canada.remotes.objects) != 0 {
		t.Errorf("west: %v, canada: %v", p.west.remotes.objects, p.canada.remotes.objects)
	}
	if _, err := p.canada.kube.CoreV1().Namespaces().Get(t.Context(), Namespace, metav1.GetOptions{}); err != nil {
		t.Errorf("the account's namespace: %v", err)
	}
	if _, err := p.west.kube.CoreV1().ServiceAccounts(Namespace).Get(t.Context(), "overland-remote-canada", metav1.GetOptions{}); err == nil {
		t.Error("canada got an account in west")
	}
	if err := p.disconnect(DisconnectOptions{OneWay: true}); err != nil {
		t.Fatal(err)
	}
	if p.west.remotes.objects["canada"] != nil {
		t.Error("still linked")
	}
}

func TestObjectsOfOthersAreNamedAndNothingIsChanged(t *testing.T) {
	for _, tt := range []struct {
		name   string
		object runtime.Object
		want   string
	}{
		{"an account", &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "overland-remote-canada", Namespace: Namespace}}, "ServiceAccount overland-system/overland-remote-canada"},
		{"a role", &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "overland-remote-canada"}}, "ClusterRole overland-remote-canada"},
		{"a Secret", &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "overland-kubeconfig-canada", Namespace: Namespace}}, "Secret overland-system/overland-kubeconfig-canada"},
		{"one for another peer", &corev1.Secret{ObjectMeta: marks("overland-kubeconfig-canada", Namespace, "fiji")}, "Secret overland-system/overland-kubeconfig-canada"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair(t, tt.object)
			before := p.state(t)
			err := p.connect(waiting())
			if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v", err)
			}
			if d := cmp.Diff(before, p.state(t)); d != "" {
				t.Errorf("changed\n%s", d)
			}
			if err := p.disconnect(DisconnectOptions{}); err != nil {
				t.Errorf("disconnect: %v", err)
			}
			if d := cmp.Diff(before, p.state(t)); d != "" {
				t.Errorf("disconnect changed\n%s", d)
			}
			if !strings.Contains(p.log.String(), "left     "+tt.want) {
				t.Errorf("disconnect says\n%s", p.log.String())
			}
		})
	}
	t.Run("a RemoteCluster", func(t *testing.T) {
		p := newPair(t)
		p.west.remotes.put(&v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: "canada"}})
		if err := p.connect(waiting()); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "RemoteCluster canada") {
			t.Errorf("got %v", err)
		}
	})
}

func TestWhatPeopleChangeIsKeptAndWhatTheyDoNotIsUpdated(t *testing.T) {
	p := newPair(t)
	if err := p.connect(waiting()); err != nil {
		t.Fatal(err)
	}
	link := p.west.remotes.objects["canada"].DeepCopy()
	link.Spec.PodCIDRs = []string{"10.2.0.0/16"}
	link.Spec.Suspend = true
	p.west.remotes.put(link)
	o := waiting()
	o.B.Pods, o.B.Nodes = mustPrefixes(t, "10.2.1.0/25"), mustPrefixes(t, "10.2.0.0/25")
	if err := p.connect(o); err != nil {
		t.Fatal(err)
	}
	got := p.west.remotes.objects["canada"].Spec
	if got.PodCIDRs[0] != "10.2.0.0/16" || !got.Suspend || got.NodeCIDRs[0] != "10.2.0.0/25" {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(p.log.String(), "keeps what was changed by hand: spec.podCIDRs (wanted: 10.2.1.0/25)") {
		t.Errorf("says\n%s", p.log.String())
	}
}

func TestRangesAreNotTakenAwayBecauseTheyAreNotKnownAnyMore(t *testing.T) {
	have := &v1alpha1.RemoteCluster{}
	have.Spec.PodCIDRs = []string{"10.2.0.0/16"}
	have.Annotations = map[string]string{appliedAnnotation: `{"podCIDRs":["10.2.0.0/16"]}`}
	mergeRemoteCluster(have, &v1alpha1.RemoteCluster{})
	if len(have.Spec.PodCIDRs) != 1 {
		t.Errorf("got %v", have.Spec.PodCIDRs)
	}
}

// tokenOf is the token that west uses for canada.
func (p *pair) tokenOf(t *testing.T) string {
	t.Helper()
	s, err := p.west.kube.CoreV1().Secrets(Namespace).Get(t.Context(), "overland-kubeconfig-canada", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(s.Data[kubeconfigKey])) {
		if token, ok := strings.CutPrefix(strings.TrimSpace(line), "token: "); ok {
			return token
		}
	}
	t.Fatalf("no token in %s", s.Data[kubeconfigKey])
	return ""
}

func (p *pair) tokenSecrets(t *testing.T) []string {
	t.Helper()
	list, err := p.canada.kube.CoreV1().Secrets(Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range list.Items {
		if s.Type == corev1.SecretTypeServiceAccountToken {
			names = append(names, s.Name)
		}
	}
	return names
}

func TestRotationReplacesTheTokenBeforeItRemovesTheOldOne_5_2(t *testing.T) {
	p := newPair(t)
	o := waiting()
	o.Token.Rotate = true
	seen := map[string]bool{}
	for range 3 {
		if err := p.connect(o); err != nil {
			t.Fatal(err)
		}
		token, secrets := p.tokenOf(t), p.tokenSecrets(t)
		if len(secrets) != 1 || !strings.HasSuffix(token, secrets[0]) {
			t.Fatalf("token %s, Secrets %v", token, secrets)
		}
		seen[token] = true
	}
	if len(seen) != 2 {
		t.Errorf("tokens %v", seen)
	}
}

func TestARotationThatFailsAtAnyStepLeavesATokenThatWorks(t *testing.T) {
	rotate := waiting()
	rotate.Token.Rotate = true
	for at := 1; ; at++ {
		p := newPair(t)
		if err := p.connect(waiting()); err != nil {
			t.Fatal(err)
		}
		p.faults.at = p.faults.count + at
		err := p.connect(rotate)
		working := false
		for _, name := range p.tokenSecrets(t) {
			working = working || strings.HasSuffix(p.tokenOf(t), name)
		}
		if !working {
			t.Fatalf("request %d failed: the token %s has no Secret among %v", at, p.tokenOf(t), p.tokenSecrets(t))
		}
		if err == nil {
			return // there is no such request any more
		}
		if err := p.connect(waiting()); err != nil {
			t.Fatal(err)
		}
		if secrets := p.tokenSecrets(t); len(secrets) != 1 || !strings.HasSuffix(p.tokenOf(t), secrets[0]) {
			t.Fatalf("request %d failed; after a repeat: token %s, Secrets %v", at, p.tokenOf(t), secrets)
		}
	}
}

func TestABoundTokenIsKeptForHalfOfItsLife_5_2(t *testing.T) {
	o := waiting()
	o.Token.TTL = time.Hour
	for name, tt := range map[string]struct {
		age  time.Duration
		kept bool
	}{"young": {20 * time.Minute, true}, "old": {40 * time.Minute, false}} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			now := p.canada.now
			p.canada.now, p.west.now = now.Add(-tt.age), now.Add(-tt.age)
			if err := p.connect(o); err != nil {
				t.Fatal(err)
			}
			if secrets := p.tokenSecrets(t); len(secrets) != 0 {
				t.Errorf("Secrets with tokens %v", secrets)
			}
			before := p.tokenOf(t)
			p.canada.now, p.west.now = now, now
			if err := p.connect(o); err != nil {
				t.Fatal(err)
			}
			if (p.tokenOf(t) == before) != tt.kept {
				t.Errorf("kept: %v", !tt.kept)
			}
		})
	}
}

func TestChangingToABoundTokenRemovesTheOther(t *testing.T) {
	p := newPair(t)
	o := waiting()
	if err := p.connect(o); err != nil {
		t.Fatal(err)
	}
	o.Token.TTL = time.Hour
	if err := p.connect(o); err != nil {
		t.Fatal(err)
	}
	if secrets := p.tokenSecrets(t); len(secrets) != 0 {
		t.Errorf("Secrets %v", secrets)
	}
}

func TestDisconnectWithOneSideUnreachableDoesTheOther(t *testing.T) {
	p := newPair(t)
	if err := p.connect(waiting()); err != nil {
		t.Fatal(err)
	}
	p.faults.down["canada"] = true
	err := p.disconnect(DisconnectOptions{})
	if !errors.Is(err, ErrPartly) || !strings.Contains(err.Error(), "RemoteCluster west in canada") || !strings.Contains(err.Error(), "ServiceAccount overland-system/overland-remote-west in canada") {
		t.Fatalf("got %v\n%s", err, p.log.String())
	}
	if p.west.remotes.objects["canada"] != nil {
		t.Error("west still knows canada")
	}
	if _, err := p.west.kube.CoreV1().ServiceAccounts(Namespace).Get(t.Context(), "overland-remote-canada", metav1.GetOptions{}); err == nil {
		t.Error("canada's account in west is left")
	}
	p.faults.down["canada"] = false
	if err := p.disconnect(DisconnectOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(p.canada.remotes.objects) != 0 {
		t.Error("canada still knows west")
	}
	p.faults.down["canada"], p.faults.down["west"] = true, true
	if err := p.disconnect(DisconnectOptions{}); err == nil || errors.Is(err, ErrPartly) {
		t.Errorf("both down: %v", err)
	}
}

func TestALinkThatDoesNotBecomeReadySaysWhy(t *testing.T) {
	p := newPair(t)
	p.west.remotes.ready, p.west.remotes.reason = false, "Unreachable"
	o := waiting()
	o.Wait = 10 * time.Millisecond
	err := p.connect(o)
	if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "Unreachable: as the test says") {
		t.Errorf("got %v", err)
	}
	o.Wait = 0
	if err := p.connect(o); err != nil {
		t.Errorf("without waiting: %v", err)
	}
}

func TestAFailedPreflightChangesNothing(t *testing.T) {
	p := newPair(t)
	p.canada.remotes.missing = true
	before := p.state(t)
	err := p.connect(waiting())
	if !errors.Is(err, ErrPreflight) || !strings.Contains(err.Error(), "--skip-preflight=installed") {
		t.Fatalf("got %v", err)
	}
	if d := cmp.Diff(before, p.state(t)); d != "" {
		t.Errorf("changed\n%s", d)
	}
}

func TestDryRunPrintsTheLinkAndChangesNothing(t *testing.T) {
	policy := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "redis", Namespace: "redis"},
		Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{
			PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"overland.dev/cluster": "canada"}},
		}}}}},
	}
	p := newPair(t, policy)
	p.west.CA, p.canada.CA = []byte("the CA of west"), []byte("the CA of canada")
	before := p.state(t)
	fixed := testCA(t)
	p.west.CA, p.canada.CA = fixed, fixed
	if err := p.connect(Options{DryRun: true}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, p.state(t)); d != "" {
		t.Errorf("changed\n%s", d)
	}
	var kinds []string
	for _, doc := range strings.Split(p.out.String(), "---\n")[1:] {
		var o struct{ Kind string }
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		kinds = append(kinds, o.Kind)
	}
	half := []string{"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Secret", "Secret", "RemoteCluster"}
	if d := cmp.Diff(append(half, half...), kinds); d != "" {
		t.Error(d)
	}
	golden(t, "link.yaml", hideCA(p.out.String()))
}

// hideCA replaces the CA, which is another one in each run.
func hideCA(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if i := strings.Index(line, "certificate-authority-data: "); i >= 0 {
			line = line[:i] + "certificate-authority-data: CA\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// golden compares with a file of testdata, or writes it if UPDATE_GOLDEN is set.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (UPDATE_GOLDEN=1 rewrites it; -want +got)\n%s", path, d)
	}
}

func TestConnectReportsWhatItCannotReadOfACluster(t *testing.T) {
	p := newPair(t)
	p.faults.down["canada"] = true
	err := p.connect(waiting())
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("context %q", "canada")) {
		t.Errorf("got %v", err)
	}
}
