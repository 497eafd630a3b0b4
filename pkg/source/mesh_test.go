package source

import (
	"fmt"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/overland-net/overland/pkg/api/v1alpha1"
	"github.com/overland-net/overland/pkg/model"
)

func secret(name string, kubeconfig []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: DefaultNamespace, Name: name},
		Data:       map[string][]byte{"kubeconfig": kubeconfig},
	}
}

func remoteCluster(name string, age int64) *v1alpha1.RemoteCluster {
	return &v1alpha1.RemoteCluster{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), CreationTimestamp: metav1.Unix(1700000000-age, 0)},
		Spec: v1alpha1.RemoteClusterSpec{
			Credentials: v1alpha1.Credentials{SecretRef: v1alpha1.SecretRef{Name: name, Key: "kubeconfig"}},
		},
	}
}

// another is the API server of another cluster.
func another(t *testing.T, uid string) *fakeAPI {
	a := newFakeAPI(t)
	a.put(namespace("kube-system", uid, nil))
	return a
}

func linkTo(local *fakeAPI, name string, age int64, remote *fakeAPI) *v1alpha1.RemoteCluster {
	rc := remoteCluster(name, age)
	local.put(secret(name, remote.kubeconfig(remote.token)), rc)
	return rc
}

func startMesh(t *testing.T, local *fakeAPI, s *fakeSink) (stop func()) {
	t.Helper()
	return run(t, NewMesh(MeshConfig{Cluster: "west", Config: local.config(), Timing: quick()}, s, quietLog()).Run)
}

func TestMeshLinksAndUnlinks_3_3(t *testing.T) {
	local, s := newFakeAPI(t), newFakeSink()
	canada := another(t, "aaaaaaaa-0000-0000-0000-000000000001")
	canada.put(pod("demo", "redis", "10.2.0.1", nil), namespace(DefaultNamespace, "x", nil))
	// A cluster that an earlier agent knew, and that is gone by now.
	s.Facts(model.Batch{Changes: []model.Change{model.Set(&model.Cluster{Name: "gone"})}})
	rc := linkTo(local, "canada", 0, canada)
	stop := startMesh(t, local, s)
	s.waitReason(t, "canada", model.ReasonInSync)
	waitTruth(t, canada, s, "canada", nil)
	if s.has(model.ClusterKey("gone")) || !s.has(model.ClusterKey("canada")) {
		t.Errorf("clusters are %v", s.of(model.KindCluster))
	}
	eventually(t, "who it is is told", func() bool {
		st := s.status("canada")
		return st.ClusterUID == "aaaaaaaa-0000-0000-0000-000000000001" && st.KubernetesVersion == "v1.30.1"
	})
	rc.Spec.ClusterLabels = map[string]v1alpha1.LabelValue{"region": "north"}
	rc.Spec.PodCIDRs = []string{"10.2.0.0/16"}
	local.put(rc)
	eventually(t, "the fact follows the object", func() bool {
		c, _ := s.of(model.KindCluster)[model.ClusterKey("canada")].(*model.Cluster)
		return c != nil && c.Labels.String() == "region=north" && len(c.PodCIDRs) == 1 && c.EndpointLimit == v1alpha1.DefaultEndpoints
	})
	local.remove(rc)
	eventually(t, "all of it is gone", func() bool { return !s.has(model.ClusterKey("canada")) && len(s.of(model.KindPod)) == 0 })
	local.put(rc)
	waitTruth(t, canada, s, "canada", nil)
	stop()
	waitTruth(t, canada, s, "canada", nil) // stopping keeps what is known
}

func TestTermsOfFederatedServicesChangeWithoutAConnection_4_9(t *testing.T) {
	local, s := newFakeAPI(t), newFakeSink()
	canada := another(t, "aaaaaaaa-0000-0000-0000-000000000001")
	rc := linkTo(local, "canada", 0, canada)
	startMesh(t, local, s)
	s.waitReason(t, "canada", model.ReasonInSync)
	told := func(spare, stale time.Duration, external bool) {
		t.Helper()
		eventually(t, fmt.Sprintf("the fact has %v, %v and %v", spare, stale, external), func() bool {
			c, _ := s.of(model.KindCluster)[model.ClusterKey("canada")].(*model.Cluster)
			return c != nil && c.SpareAfter == spare && c.ServicesStaleAfter == stale && c.ExternalAddresses == external
		})
	}
	told(v1alpha1.DefaultSpareAfter, 0, false)
	hellos := canada.count("get namespaces")
	rc.Spec.Services.SpareAfter = &metav1.Duration{}
	local.put(rc)
	told(0, 0, false)
	rc.Spec.Services.StaleAfter = metav1.Duration{Duration: time.Hour}
	local.put(rc)
	told(0, time.Hour, false)
	rc.Spec.Services.AllowExternalAddresses = true
	local.put(rc)
	told(0, time.Hour, true)
	if n := canada.count("get namespaces"); n != hellos {
		t.Errorf("who it is was asked %d times more", n-hellos)
	}
}

func TestMeshReconnectsWhenTheSecretChanges_1_2(t *testing.T) {
	local, s := newFakeAPI(t), newFakeSink()
	canada := another(t, "aaaaaaaa-0000-0000-0000-000000000001")
	canada.put(pod("demo", "redis", "10.2.0.1", nil))
	rc := remoteCluster("canada", 0)
	local.put(rc)
	startMesh(t, local, s)
	s.waitReason(t, "canada", model.ReasonSecretNotFound)
	local.put(secret("canada", []byte("nonsense")))
	s.waitReason(t, "canada", model.ReasonInvalidKubeconfig)
	local.put(secret("canada", canada.kubeconfig("wrong")))
	s.waitReason(t, "canada", model.ReasonUnauthorized)
	local.put(secret("canada", canada.kubeconfig(canada.token)))
	s.waitReason(t, "canada", model.ReasonInSync)
	waitTruth(t, canada, s, "canada", nil)
	// The token is replaced: the old one ends first.
	canada.set(func() { canada.token = "next" })
	canada.CloseClientConnections()
	s.waitReason(t, "canada", model.ReasonUnauthorized)
	if len(s.of(model.KindPod)) != 1 {
		t.Error("facts went with the token")
	}
	local.put(secret("canada", canada.kubeconfig("next")))
	s.waitReason(t, "canada", model.ReasonInSync)
	if s.status("canada").LastContact.IsZero() {
		t.Error("the last contact is forgotten")
	}
}

func TestMeshSuspends_1_2(t *testing.T) {
	local, s := newFakeAPI(t), newFakeSink()
	canada := another(t, "aaaaaaaa-0000-0000-0000-000000000001")
	canada.put(pod("demo", "redis", "10.2.0.1", nil))
	rc := linkTo(local, "canada", 0, canada)
	startMesh(t, local, s)
	s.waitReason(t, "canada", model.ReasonInSync)
	rc.Spec.Suspend = true
	local.put(rc)
	s.waitReason(t, "canada", model.ReasonSuspended)
	canada.put(pod("demo", "later", "10.2.0.2", nil))
	if len(s.of(model.KindPod)) != 1 {
		t.Error("what was known is not kept, or more was learnt")
	}
	rc.Spec.Suspend = false
	local.put(rc)
	s.waitReason(t, "canada", model.ReasonInSync)
	waitTruth(t, canada, s, "canada", nil)
}

func TestMeshRefusesNamesAndClusters_1_1(t *testing.T) {
	local, s := newFakeAPI(t), newFakeSink()
	const shared = "aaaaaaaa-0000-0000-0000-000000000001"
	canada := another(t, shared)
	canada.put(pod("demo", "redis", "10.2.0.1", nil))
	linkTo(local, "canada", 100, canada)
	linkTo(local, "twin", 50, canada)
	linkTo(local, "west", 10, canada)
	linkTo(local, "any", 10, canada)
	linkTo(local, "mirror", 10, local)
	local.put(pod("demo", "own", "10.1.0.1", nil))
	bad := remoteCluster("bad", 1)
	bad.Spec.PodCIDRs = []string{"10.2.0.1/16"}
	local.put(bad)
	startMesh(t, local, s)
	s.waitReason(t, "canada", model.ReasonInSync)
	s.waitReason(t, "twin", model.ReasonDuplicateCluster)
	s.waitReason(t, "any", model.ReasonInvalidName)
	s.waitReason(t, "bad", model.ReasonInvalidSpec)
	if st := s.waitReason(t, "mirror", model.ReasonSelfLink); st.State != model.StateRefused {
		t.Errorf("a link to itself is %v", st.State)
	}
	waitTruth(t, canada, s, "canada", nil)
	eventually(t, "nothing is taken from the others", func() bool { return len(s.of(model.KindPod)) == 1 })
	if _, told := s.statuses["west"]; told {
		t.Error("a RemoteCluster with the local name speaks for the local cluster")
	}
	// The older link goes: the younger one is as good as any.
	local.remove(remoteCluster("canada", 100))
	s.waitReason(t, "twin", model.ReasonInSync)
	waitTruth(t, canada, s, "twin", nil)
}

func TestMeshDrainsAChangedCluster_1_1(t *testing.T) {
	local, s := newFakeAPI(t), newFakeSink()
	canada := another(t, "aaaaaaaa-0000-0000-0000-000000000001")
	canada.put(pod("demo", "redis", "10.2.0.1", nil))
	rc := linkTo(local, "canada", 0, canada)
	startMesh(t, local, s)
	s.waitReason(t, "canada", model.ReasonInSync)
	// The address is another cluster's from now on.
	canada.put(namespace("kube-system", "bbbbbbbb-0000-0000-0000-000000000002", nil))
	eventually(t, "the old identities are drained", func() bool { return s.drained("canada") == 1 })
	s.waitReason(t, "canada", model.ReasonInSync)
	waitTruth(t, canada, s, "canada", nil)
	s.mu.Lock()
	reasons := fmt.Sprint(s.states["canada"])
	s.mu.Unlock()
	if s.drained("canada") != 1 {
		t.Errorf("drained %d times; reasons %s", s.drained("canada"), reasons)
	}
	_ = rc
}

func TestMeshPinnedUIDOutlivesTheAgent_1_1(t *testing.T) {
	local, s := newFakeAPI(t), newFakeSink()
	canada := another(t, "aaaaaaaa-0000-0000-0000-000000000001")
	rc := remoteCluster("canada", 0)
	rc.Status.ClusterUID = "cccccccc-0000-0000-0000-000000000003"
	local.put(rc, secret("canada", canada.kubeconfig(canada.token)))
	startMesh(t, local, s)
	s.waitReason(t, "canada", model.ReasonInSync)
	if s.drained("canada") != 1 {
		t.Errorf("drained %d times, expected once: the cluster is not the one that was pinned", s.drained("canada"))
	}
}

func TestDeadRemoteHoldsUpNothing_3_6(t *testing.T) {
	local, s := newFakeAPI(t), newFakeSink()
	dead, alive := another(t, "aaaaaaaa-0000-0000-0000-000000000001"), another(t, "bbbbbbbb-0000-0000-0000-000000000002")
	alive.put(pod("demo", "redis", "10.2.0.1", nil))
	dead.silent = true
	linkTo(local, "dead", 5, dead)
	linkTo(local, "alive", 1, alive)
	startMesh(t, local, s)
	s.waitReason(t, "alive", model.ReasonInSync)
	waitTruth(t, alive, s, "alive", nil)
	// And its removal does not wait for it either.
	local.remove(remoteCluster("dead", 5))
	eventually(t, "the dead one is gone", func() bool { return !s.has(model.ClusterKey("dead")) })
}

func TestMeshFollowsUnderFaults(t *testing.T) {
	local, s := newFakeAPI(t), newFakeSink()
	local.faults = 0.3
	canada := another(t, "aaaaaaaa-0000-0000-0000-000000000001")
	canada.put(pod("demo", "redis", "10.2.0.1", nil))
	startMesh(t, local, s)
	for i := range 5 {
		rc := linkTo(local, "canada", int64(i), canada)
		s.waitReason(t, "canada", model.ReasonInSync)
		waitTruth(t, canada, s, "canada", nil)
		local.CloseClientConnections()
		local.compact()
		local.remove(rc)
		eventually(t, "it is gone", func() bool { return !s.has(model.ClusterKey("canada")) })
		s.mu.Lock()
		delete(s.statuses, "canada")
		s.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

// TestALateAnswerOfAnEarlierObjectPinsNothing_1_1: the earlier one may have had
// another cluster's credentials.
func TestALateAnswerOfAnEarlierObjectPinsNothing_1_1(t *testing.T) {
	r := newRegistry()
	earlier, rc := remoteCluster("canada", 5), remoteCluster("canada", 1)
	rc.UID = "another"
	r.put(earlier, func() {})
	r.remove("canada")
	r.put(rc, func() {})
	r.accept("canada", model.ParseUID(string(earlier.UID)), "aaaa")
	if v := r.accept("canada", model.ParseUID(string(rc.UID)), "bbbb"); v.refused != nil || v.changed {
		t.Errorf("the first answer is taken as %+v", v)
	}
}

func TestUnreadableRemoteClustersAreToldOnce_3_5(t *testing.T) {
	local, s := newFakeAPI(t), newFakeSink()
	local.forbidden["remoteclusters"] = true
	log, hook := test.NewNullLogger()
	run(t, NewMesh(MeshConfig{Cluster: "west", Config: local.config(), Timing: quick()}, s, logrus.NewEntry(log)).Run)
	told := func() (n int) {
		for _, e := range hook.AllEntries() {
			if e.Level == logrus.WarnLevel && e.Data["reason"] == model.ReasonForbidden {
				n++
			}
		}
		return n
	}
	eventually(t, "it is told", func() bool { return told() > 0 })
	tries := local.count("list remoteclusters")
	eventually(t, "it is tried again", func() bool { return local.count("list remoteclusters") > tries+3 })
	if n := told(); n != 1 {
		t.Errorf("told %d times", n)
	}
	canada := another(t, "aaaaaaaa-0000-0000-0000-000000000001")
	linkTo(local, "canada", 0, canada)
	local.set(func() { local.forbidden["remoteclusters"] = false })
	s.waitReason(t, "canada", model.ReasonInSync)
}
