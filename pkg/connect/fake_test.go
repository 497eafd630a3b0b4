package connect

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apimachinery/pkg/watch"
	fakediscovery "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"github.com/overland-net/overland/pkg/api/v1alpha1"
)

var errFault = errors.New("injected fault")

// faults fails one of the requests to any cluster.
type faults struct {
	mu    sync.Mutex
	count int
	at    int  // the number of the request that fails; 0: none
	late  bool // it is carried out all the same
	// down are the contexts that cannot be reached.
	down map[string]bool
}

// next tells what is to become of a request to a context.
func (f *faults) next(context string) (fail, late bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	if f.down[context] {
		return true, false
	}
	return f.count == f.at, f.late
}

// site is a fake cluster.
type site struct {
	*Cluster
	name    string
	tracker clienttesting.ObjectTracker
	kube    *fake.Clientset
	remotes *fakeRemotes
	now     time.Time // for tokens
}

// testCA is a certificate in PEM form, as good as any.
func testCA(t *testing.T) []byte {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return pemOf(s.Certificate().Raw)
}

func pemOf(der []byte) []byte {
	var b strings.Builder
	b.WriteString("-----BEGIN CERTIFICATE-----\n")
	text := base64.StdEncoding.EncodeToString(der)
	for len(text) > 64 {
		b.WriteString(text[:64] + "\n")
		text = text[64:]
	}
	b.WriteString(text + "\n-----END CERTIFICATE-----\n")
	return []byte(b.String())
}

// newSite is a cluster whose number decides its addresses, as in the lab.
func newSite(t *testing.T, name string, number int, f *faults, ca []byte, more ...runtime.Object) *site {
	t.Helper()
	objects := append([]runtime.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: types.UID("uid-" + name)}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}},
		&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: configMapName, Namespace: Namespace},
			Data: map[string]string{configMapKey: fmt.Sprintf(
				"clusterName: %s\nclusterLabels: {region: %s}\npodCIDRs: [10.%d.1.0/24, 10.%d.2.0/24]\nnodeCIDRs: [10.%d.0.0/24]\nsomethingNew: 1\n",
				name, name, number, number, number)},
		},
		&networkingv1.ServiceCIDR{
			ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"},
			Spec:       networkingv1.ServiceCIDRSpec{CIDRs: []string{fmt.Sprintf("10.10%d.0.0/16", number)}},
		},
	}, more...)
	for i := 1; i <= 2; i++ {
		node := fmt.Sprintf("%s-node-%d", name, i)
		objects = append(
			objects,
			&corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Name: node},
				Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.%d.0.%d", number, i+3)}}},
			},
			&corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: "agent-" + node, Namespace: Namespace, Labels: map[string]string{"app.kubernetes.io/name": "overland-agent"}},
				Spec:       corev1.PodSpec{NodeName: node, HostNetwork: true, Containers: []corev1.Container{{Name: "agent"}}},
				Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
			},
			&corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: "pod-" + node, Namespace: "default"},
				Spec:       corev1.PodSpec{NodeName: node},
				Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: fmt.Sprintf("10.%d.%d.10", number, i)}}},
			},
		)
	}
	s := &site{name: name, kube: fake.NewClientset(), now: time.Now().Truncate(time.Second)}
	// Without managed fields, which take the clientset's own tracker most of the
	// time of these tests.
	s.tracker = clienttesting.NewObjectTracker(scheme.Scheme, scheme.Codecs.UniversalDecoder())
	for _, o := range objects {
		if err := s.tracker.Add(o); err != nil {
			t.Fatal(err)
		}
	}
	s.remotes = &fakeRemotes{context: name, faults: f, objects: map[string]*v1alpha1.RemoteCluster{}, ready: true}
	s.serve(f)
	if d, ok := s.kube.Discovery().(*fakediscovery.FakeDiscovery); ok {
		d.FakedServerVersion = &version.Info{GitVersion: "v1.33.2"}
	}
	s.Cluster = &Cluster{
		Context: name, Server: "https://" + name + ".example:6443", CA: ca, Kube: s.kube, Remotes: s.remotes,
		Exec: func(_ context.Context, _ AgentPod, command []string, stdin io.Reader) ([]byte, error) {
			text, err := io.ReadAll(stdin)
			if err != nil {
				return nil, err
			}
			return json.Marshal(Reached{URL: command[2], OK: len(text) > 0, Status: 200})
		},
	}
	return s
}

// serve adds what a clientset lacks of an API server: uids, tokens, faults.
func (s *site) serve(f *faults) {
	plain := clienttesting.ObjectReaction(s.tracker)
	s.kube.PrependReactor("*", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		fail, late := f.next(s.name)
		if fail && !late {
			return true, nil, errFault
		}
		handled, result, err := s.handle(plain, a)
		if fail {
			return true, nil, errFault
		}
		return handled, result, err
	})
}

func (s *site) handle(plain clienttesting.ReactionFunc, a clienttesting.Action) (bool, runtime.Object, error) {
	if create, ok := a.(clienttesting.CreateAction); ok && a.GetVerb() == "create" {
		if a.GetSubresource() == "token" {
			return true, s.issue(create), nil
		}
		if o, err := meta.Accessor(create.GetObject()); err == nil && o.GetUID() == "" {
			o.SetUID(types.UID("uid-of-" + o.GetName()))
		}
		if secret, ok := create.GetObject().(*corev1.Secret); ok && secret.Type == corev1.SecretTypeServiceAccountToken {
			secret.Data = map[string][]byte{corev1.ServiceAccountTokenKey: []byte("token." + s.name + "." + secret.Name)}
		}
	}
	return plain(a)
}

// issue makes a token like those of a TokenRequest.
func (s *site) issue(create clienttesting.CreateAction) runtime.Object {
	request, ok := create.GetObject().(*authenticationv1.TokenRequest)
	if !ok {
		return nil
	}
	expire := s.now.Add(time.Duration(*request.Spec.ExpirationSeconds) * time.Second)
	request = request.DeepCopy()
	request.Status.Token = jwt(s.now, expire, "uid-of-overland-remote-"+s.peer())
	return request
}

// peer is the other cluster in tests of two.
func (s *site) peer() string {
	if s.name == "west" {
		return "canada"
	}
	return "west"
}

func jwt(issued, expire time.Time, account string) string {
	encode := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"iat":%d,"exp":%d,"kubernetes.io":{"serviceaccount":{"uid":%q}}}`, issued.Unix(), expire.Unix(), account)
	return encode([]byte(`{"alg":"none"}`)) + "." + encode([]byte(claims)) + "." + encode([]byte("signature"))
}

// state is all that connect may have made, as text.
func (s *site) state(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	show := func(objects ...object) {
		for _, o := range objects {
			o.SetManagedFields(nil)
			text, err := yaml.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "--- %s\n%s", describe(o), text)
		}
	}
	for _, resource := range []struct{ group, version, kind, resource string }{
		{"", "v1", "ServiceAccount", "serviceaccounts"},
		{"", "v1", "Secret", "secrets"},
		{"rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles"},
		{"rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings"},
	} {
		gvr := schemaResource(resource.group, resource.version, resource.resource)
		list, err := s.tracker.List(gvr, gvr.GroupVersion().WithKind(resource.kind), "")
		if err != nil {
			t.Fatal(err)
		}
		items, err := meta.ExtractList(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range items {
			if o, ok := item.(object); ok {
				show(o)
			}
		}
	}
	for _, name := range []string{"canada", "west"} {
		if r := s.remotes.objects[name]; r != nil {
			r = r.DeepCopy()
			r.Status = v1alpha1.RemoteClusterStatus{}
			r.ResourceVersion = ""
			show(r)
		}
	}
	return b.String()
}

// fakeRemotes is the API for RemoteClusters of one cluster, whose agents see a
// new object at once.
type fakeRemotes struct {
	context string
	faults  *faults
	mu      sync.Mutex
	objects map[string]*v1alpha1.RemoteCluster
	version int
	ready   bool
	missing bool // there is no CRD
	// reason of not being Ready.
	reason string
	// busy is before how many of the next changes the agents write the status.
	busy int
}

// meanwhile is what agents do between a look and a change.
func (r *fakeRemotes) meanwhile(o *v1alpha1.RemoteCluster) {
	if o != nil && r.busy > 0 {
		r.busy--
		r.put(o)
	}
}

func (r *fakeRemotes) call(do func() (*v1alpha1.RemoteCluster, error)) (*v1alpha1.RemoteCluster, error) {
	fail, late := r.faults.next(r.context)
	if fail && !late {
		return nil, errFault
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.missing {
		return nil, apierrors.NewNotFound(v1alpha1.GroupVersionResource().GroupResource(), "")
	}
	o, err := do()
	if fail {
		return nil, errFault
	}
	if err != nil {
		return nil, err
	}
	return o.DeepCopy(), nil
}

func (r *fakeRemotes) put(o *v1alpha1.RemoteCluster) *v1alpha1.RemoteCluster {
	r.version++
	o = o.DeepCopy()
	o.ResourceVersion = fmt.Sprint(r.version)
	status := metav1.ConditionFalse
	reason := r.reason
	if r.ready {
		status, reason = metav1.ConditionTrue, "InSync"
	}
	meta.SetStatusCondition(&o.Status.Conditions, metav1.Condition{Type: "Ready", Status: status, Reason: reason, Message: "as the test says"})
	r.objects[o.Name] = o
	return o
}

func notFound(name string) error {
	return apierrors.NewNotFound(v1alpha1.GroupVersionResource().GroupResource(), name)
}

func (r *fakeRemotes) Get(_ context.Context, name string, _ metav1.GetOptions) (*v1alpha1.RemoteCluster, error) {
	return r.call(func() (*v1alpha1.RemoteCluster, error) {
		if o := r.objects[name]; o != nil {
			return o, nil
		}
		return nil, notFound(name)
	})
}

func (r *fakeRemotes) List(context.Context, metav1.ListOptions) (*v1alpha1.RemoteClusterList, error) {
	list := &v1alpha1.RemoteClusterList{}
	_, err := r.call(func() (*v1alpha1.RemoteCluster, error) {
		for _, o := range r.objects {
			list.Items = append(list.Items, *o.DeepCopy())
		}
		return &v1alpha1.RemoteCluster{}, nil
	})
	return list, err
}

func (r *fakeRemotes) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return nil, errors.New("not served")
}

func (r *fakeRemotes) Create(_ context.Context, o *v1alpha1.RemoteCluster, _ metav1.CreateOptions) (*v1alpha1.RemoteCluster, error) {
	return r.call(func() (*v1alpha1.RemoteCluster, error) {
		if r.objects[o.Name] != nil {
			return nil, apierrors.NewAlreadyExists(v1alpha1.GroupVersionResource().GroupResource(), o.Name)
		}
		o = o.DeepCopy()
		o.UID = types.UID("uid-of-" + o.Name)
		return r.put(o), nil
	})
}

func (r *fakeRemotes) Update(_ context.Context, o *v1alpha1.RemoteCluster, _ metav1.UpdateOptions) (*v1alpha1.RemoteCluster, error) {
	return r.call(func() (*v1alpha1.RemoteCluster, error) {
		r.meanwhile(r.objects[o.Name])
		have := r.objects[o.Name]
		if have == nil {
			return nil, notFound(o.Name)
		}
		if have.ResourceVersion != o.ResourceVersion {
			return nil, apierrors.NewConflict(v1alpha1.GroupVersionResource().GroupResource(), o.Name, errors.New("another version"))
		}
		return r.put(o), nil
	})
}

func (r *fakeRemotes) Delete(_ context.Context, name string, opts metav1.DeleteOptions) error {
	_, err := r.call(func() (*v1alpha1.RemoteCluster, error) {
		r.meanwhile(r.objects[name])
		have := r.objects[name]
		if have == nil {
			return nil, notFound(name)
		}
		if p := opts.Preconditions; p == nil || p.UID == nil || *p.UID != have.UID || p.ResourceVersion == nil || *p.ResourceVersion != have.ResourceVersion {
			return nil, apierrors.NewConflict(v1alpha1.GroupVersionResource().GroupResource(), name, errors.New("another object"))
		}
		delete(r.objects, name)
		return have, nil
	})
	return err
}
