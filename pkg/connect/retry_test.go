package connect

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The agents write the status of a RemoteCluster whenever they like, also between
// a look at it and a change.
func TestAStatusWrittenMeanwhileIsNoFailure(t *testing.T) {
	p := newPair(t)
	if err := p.connect(waiting()); err != nil {
		t.Fatal(err)
	}
	p.west.remotes.busy = 3
	o := waiting()
	o.B.Pods = mustPrefixes(t, "10.2.0.0/16")
	if err := p.connect(o); err != nil {
		t.Fatal(err)
	}
	if got := p.west.remotes.objects["canada"].Spec.PodCIDRs; len(got) != 1 || got[0] != "10.2.0.0/16" {
		t.Errorf("ranges %v", got)
	}
	p.west.remotes.busy = 3
	if err := p.disconnect(DisconnectOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(p.west.remotes.objects) != 0 {
		t.Error("west still knows canada")
	}
}

func TestAnObjectThatNeverKeepsStillIsAnError(t *testing.T) {
	p := newPair(t)
	if err := p.connect(waiting()); err != nil {
		t.Fatal(err)
	}
	p.west.remotes.busy = 1000
	if err := p.disconnect(DisconnectOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("got %v", err)
	}
}

// An account that was deleted and made again has another uid, and no API server
// accepts the tokens of the former one; their Secrets are there for a while.
func TestATokenOfAFormerAccountIsReplaced_5_2(t *testing.T) {
	p := newPair(t)
	if err := p.connect(waiting()); err != nil {
		t.Fatal(err)
	}
	secrets := p.canada.kube.CoreV1().Secrets(Namespace)
	secret, err := secrets.Get(t.Context(), "overland-remote-west-token", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if of := secret.Annotations[corev1.ServiceAccountUIDKey]; of != "uid-of-overland-remote-west" {
		t.Errorf("the token is asked for as that of %q", of)
	}
	secret.Annotations[corev1.ServiceAccountUIDKey] = "former"
	secret.Data[corev1.ServiceAccountTokenKey] = []byte("former")
	if _, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := p.connect(waiting()); err != nil {
		t.Fatal(err)
	}
	if token := p.tokenOf(t); !strings.HasSuffix(token, secret.Name) {
		t.Errorf("the token is %q\n%s", token, p.log.String())
	}
}

func TestADryRunSaysWhatIsInTheWay(t *testing.T) {
	p := newPair(t)
	_, err := p.canada.kube.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "overland-remote-west"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = p.connect(Options{DryRun: true, Token: TokenOptions{TTL: time.Hour}})
	if err == nil || !strings.Contains(err.Error(), "ClusterRole overland-remote-west exists") {
		t.Errorf("got %v", err)
	}
	if out := p.out.String(); strings.Contains(out, string(corev1.SecretTypeServiceAccountToken)) || !strings.Contains(out, "kind: RemoteCluster") {
		t.Errorf("printed with a token that expires:\n%s", out)
	}
}

func TestEachLinkThatIsNotReadyIsNamed(t *testing.T) {
	p := newPair(t)
	p.west.remotes.ready, p.west.remotes.reason = false, "Unreachable"
	p.canada.remotes.ready, p.canada.remotes.reason = false, "Unauthorized"
	o := waiting()
	o.Wait = 10 * time.Millisecond
	err := p.connect(o)
	if err == nil || !strings.Contains(err.Error(), "canada in west: Unreachable") || !strings.Contains(err.Error(), "west in canada: Unauthorized") {
		t.Errorf("got %v", err)
	}
}

func TestOneWayMasqueradingByTheLearnerIsNoMatter(t *testing.T) {
	a, b := sides(t)
	b.Learns, b.Probes = false, nil
	a.Masquerade = Masquerade{Present: true} // hides a's pods from b, which knows no policy about them
	if results := Preflight(a, b, nil); failed(results) {
		t.Errorf("got %v", results)
	}
	b.Masquerade = Masquerade{Present: true}
	if results := Preflight(a, b, nil); !failed(results) {
		t.Errorf("got %v", results)
	}
}
