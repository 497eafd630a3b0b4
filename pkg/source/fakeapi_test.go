package source

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/overland-net/overland/pkg/api/v1alpha1"
)

// fakeAPI is an API server as far as this package uses one: over TLS, with lists
// in pages, streamed lists, watches with bookmarks, and the faults that real ones
// have, at random, unless they are turned off.
type fakeAPI struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex
	version int
	objects map[string]map[string]runtime.Object // by resource and namespace/name
	log     []logged
	oldest  int // watches from before are expired
	wake    chan struct{}
	chance  *rand.Rand

	// The test's to set, under mu.
	faults       float64 // the chance that a request goes wrong
	streamed     bool    // streamed lists are served
	token        string
	forbidden    map[string]bool // by resource
	gitVersion   string
	minor        string
	intercept    func(w http.ResponseWriter, r *http.Request) bool
	requests     map[string]int // by resource and verb
	silent       bool           // nothing is answered
	silentChange chan struct{}
}

type logged struct {
	version  int
	resource string
	kind     string
	object   runtime.Object
}

func newFakeAPI(t *testing.T) *fakeAPI {
	t.Helper()
	a := &fakeAPI{
		t: t, version: 100, objects: map[string]map[string]runtime.Object{}, wake: make(chan struct{}),
		chance: rand.New(rand.NewPCG(1, uint64(len(t.Name())))), streamed: true, token: "secret", gitVersion: "v1.30.1", minor: "30",
		forbidden: map[string]bool{}, requests: map[string]int{}, silentChange: make(chan struct{}),
	}
	a.Server = httptest.NewUnstartedServer(a)
	a.EnableHTTP2 = true
	a.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.StartTLS()
	t.Cleanup(func() {
		a.set(func() { a.silent = false })
		a.CloseClientConnections()
		a.Close()
	})
	a.put(namespace("kube-system", "11111111-2222-3333-4444-555555555555", nil))
	return a
}

// config connects to the server with the right credentials.
func (a *fakeAPI) config() *rest.Config {
	return &rest.Config{Host: a.URL, BearerToken: a.token, TLSClientConfig: rest.TLSClientConfig{CAData: a.ca()}}
}

func (a *fakeAPI) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})
}

func (a *fakeAPI) kubeconfig(token string) []byte {
	return kubeconfigOf(a.URL, a.ca(), token)
}

// set changes the server's ways.
func (a *fakeAPI) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.silent
	change()
	if was && !a.silent {
		close(a.silentChange)
		a.silentChange = make(chan struct{})
	}
	close(a.wake)
	a.wake = make(chan struct{})
}

func resourceOf(o runtime.Object) string {
	switch o.(type) {
	case *corev1.Pod:
		return "pods"
	case *corev1.Node:
		return "nodes"
	case *corev1.Namespace:
		return "namespaces"
	case *corev1.Secret:
		return "secrets"
	case *networkingv1.NetworkPolicy:
		return "networkpolicies"
	case *corev1.Service:
		return "services"
	case *discoveryv1.EndpointSlice:
		return "endpointslices"
	case *v1alpha1.RemoteCluster:
		return "remoteclusters"
	}
	panic(fmt.Sprintf("%T", o))
}

func keyOf(o runtime.Object) string {
	m, err := meta.Accessor(o)
	if err != nil {
		panic(err)
	}
	return m.GetNamespace() + "/" + m.GetName()
}

// put makes or changes objects.
func (a *fakeAPI) put(objects ...runtime.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range objects {
		o = o.DeepCopyObject()
		resource, key := resourceOf(o), keyOf(o)
		kind := "MODIFIED"
		if a.objects[resource] == nil {
			a.objects[resource] = map[string]runtime.Object{}
		}
		if a.objects[resource][key] == nil {
			kind = "ADDED"
		}
		a.objects[resource][key] = o
		a.record(kind, resource, o)
	}
}

func (a *fakeAPI) remove(objects ...runtime.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range objects {
		resource, key := resourceOf(o), keyOf(o)
		if known := a.objects[resource][key]; known != nil {
			delete(a.objects[resource], key)
			a.record("DELETED", resource, known.DeepCopyObject())
		}
	}
}

func (a *fakeAPI) record(kind, resource string, o runtime.Object) {
	a.version++
	m, err := meta.Accessor(o)
	if err != nil {
		panic(err)
	}
	m.SetResourceVersion(strconv.Itoa(a.version))
	a.log = append(a.log, logged{a.version, resource, kind, o.DeepCopyObject()})
	close(a.wake)
	a.wake = make(chan struct{})
}

// compact makes watches from before now expire.
func (a *fakeAPI) compact() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.oldest, a.log = a.version, nil
}

func (a *fakeAPI) count(what string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests[what]
}

// ServeHTTP answers a request, or does with it what the faults say.
func (a *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	intercept, silent, change := a.intercept, a.silent, a.silentChange
	token, version, minor := a.token, a.gitVersion, a.minor
	fault := a.chance.Float64() < a.faults
	kind := a.chance.IntN(3)
	a.mu.Unlock()
	if silent {
		select {
		case <-change:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case intercept != nil && intercept(w, r):
	case r.Header.Get("Authorization") != "Bearer "+token:
		a.fail(w, r, http.StatusUnauthorized, metav1.StatusReasonUnauthorized)
	case r.URL.Path == "/version":
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"major":"1","minor":%q,"gitVersion":%q}`, minor, version)
	case fault && kind == 0:
		a.fail(w, r, http.StatusInternalServerError, metav1.StatusReasonInternalError)
	case fault && kind == 1:
		a.fail(w, r, http.StatusGone, metav1.StatusReasonExpired)
	case fault:
		panic(http.ErrAbortHandler)
	default:
		a.resource(w, r)
	}
}

// resource answers a get, a list or a watch.
func (a *fakeAPI) resource(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/api/v1/")
	path = strings.TrimPrefix(path, "/apis/networking.k8s.io/v1/")
	path = strings.TrimPrefix(path, "/apis/discovery.k8s.io/v1/")
	path = strings.TrimPrefix(path, "/apis/overland.dev/v1alpha1/")
	parts := strings.Split(path, "/")
	q := request{w: w, r: r, resource: parts[0]}
	switch {
	case len(parts) == 3 && parts[0] == "namespaces":
		q.namespace, q.resource = parts[1], parts[2]
	case len(parts) == 2:
		q.name = parts[1]
	}
	query := r.URL.Query()
	if name, ok := strings.CutPrefix(query.Get("fieldSelector"), "metadata.name="); ok {
		q.only = name
	}
	verb := "list"
	switch {
	case q.name != "":
		verb = "get"
	case query.Get("watch") != "":
		verb = "watch"
	}
	a.mu.Lock()
	a.requests[verb+" "+q.resource]++
	forbidden := a.forbidden[q.resource] || a.forbidden[verb+" "+q.resource] || a.forbidden[q.namespace+"/"+q.resource]
	a.mu.Unlock()
	switch {
	case forbidden:
		a.fail(w, r, http.StatusForbidden, metav1.StatusReasonForbidden)
	case verb == "get":
		a.get(q)
	case verb == "watch":
		a.watch(q)
	default:
		a.list(q)
	}
}

type request struct {
	w                               http.ResponseWriter
	r                               *http.Request
	resource, namespace, name, only string
}

func (q request) covers(o runtime.Object) bool {
	m, err := meta.Accessor(o)
	if err != nil {
		panic(err)
	}
	return (q.namespace == "" || m.GetNamespace() == q.namespace) && (q.only == "" || m.GetName() == q.only)
}

func (a *fakeAPI) get(q request) {
	a.mu.Lock()
	o := a.objects[q.resource]["/"+q.name]
	a.mu.Unlock()
	if o == nil {
		a.fail(q.w, q.r, http.StatusNotFound, metav1.StatusReasonNotFound)
		return
	}
	a.answer(q.w, q.r, http.StatusOK, o)
}

func listOf(resource string) runtime.Object {
	switch resource {
	case "pods":
		return &corev1.PodList{}
	case "nodes":
		return &corev1.NodeList{}
	case "namespaces":
		return &corev1.NamespaceList{}
	case "secrets":
		return &corev1.SecretList{}
	case "networkpolicies":
		return &networkingv1.NetworkPolicyList{}
	case "services":
		return &corev1.ServiceList{}
	case "endpointslices":
		return &discoveryv1.EndpointSliceList{}
	}
	return &v1alpha1.RemoteClusterList{}
}

func (a *fakeAPI) list(q request) {
	a.mu.Lock()
	var keys []string
	for key, o := range a.objects[q.resource] {
		if q.covers(o) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	query := q.r.URL.Query()
	limit, _ := strconv.Atoi(query.Get("limit"))
	after := query.Get("continue")
	list := listOf(q.resource)
	var items []runtime.Object
	next := ""
	for _, key := range keys {
		if key <= after {
			continue
		}
		if limit > 0 && len(items) == limit {
			next = keyOf(items[len(items)-1])
			break
		}
		items = append(items, a.objects[q.resource][key])
	}
	version := strconv.Itoa(a.version)
	a.mu.Unlock()
	if err := meta.SetList(list, items); err != nil {
		panic(err)
	}
	m, err := meta.ListAccessor(list)
	if err != nil {
		panic(err)
	}
	m.SetResourceVersion(version)
	m.SetContinue(next)
	a.answer(q.w, q.r, http.StatusOK, list)
}

func (a *fakeAPI) fail(w http.ResponseWriter, r *http.Request, code int, reason metav1.StatusReason) {
	a.answer(w, r, code, &metav1.Status{
		Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: r.URL.Path + ": " + string(reason),
	})
}

// mediaOf picks how to answer: protobuf if asked for and possible.
func mediaOf(r *http.Request) (runtime.SerializerInfo, runtime.Encoder) {
	media := runtime.ContentTypeJSON
	if strings.Contains(r.Header.Get("Accept"), runtime.ContentTypeProtobuf) {
		media = runtime.ContentTypeProtobuf
	}
	known := runtime.NewScheme()
	if err := scheme.AddToScheme(known); err != nil {
		panic(err)
	}
	if err := v1alpha1.AddToScheme(known); err != nil {
		panic(err)
	}
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), media)
	return info, versioned{info.Serializer, known}
}

// versioned fills in the kind, as API servers do.
type versioned struct {
	runtime.Encoder
	known *runtime.Scheme
}

func (v versioned) bytes(o runtime.Object) []byte {
	o = o.DeepCopyObject()
	if gvks, _, err := v.known.ObjectKinds(o); err == nil {
		gvk := gvks[0]
		if _, ok := o.(*metav1.Status); ok {
			gvk = schema.GroupVersionKind{Version: "v1", Kind: "Status"}
		}
		o.GetObjectKind().SetGroupVersionKind(gvk)
	}
	var b bytes.Buffer
	if err := v.Encode(o, &b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func (a *fakeAPI) answer(w http.ResponseWriter, r *http.Request, code int, o runtime.Object) {
	info, encoder := mediaOf(r)
	w.Header().Set("Content-Type", info.MediaType)
	w.WriteHeader(code)
	_, _ = w.Write(encoder.(versioned).bytes(o))
}

// watch sends events until the client goes, or a fault ends it.
func (a *fakeAPI) watch(q request) {
	query := q.r.URL.Query()
	initial := query.Get("sendInitialEvents") == "true"
	a.mu.Lock()
	streamed, oldest := a.streamed, a.oldest
	life := -1
	if a.faults > 0 && a.chance.Float64() < 0.5 {
		life = a.chance.IntN(20)
	}
	a.mu.Unlock()
	if initial && !streamed {
		a.fail(q.w, q.r, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid)
		return
	}
	from, _ := strconv.Atoi(query.Get("resourceVersion"))
	if !initial && from < oldest {
		a.fail(q.w, q.r, http.StatusGone, metav1.StatusReasonExpired)
		return
	}
	info, encoder := mediaOf(q.r)
	q.w.Header().Set("Content-Type", info.MediaType+";stream=watch")
	frames := info.StreamSerializer.Framer.NewFrameWriter(q.w)
	out := streaming.NewEncoder(frames, info.StreamSerializer.Serializer)
	send := func(kind string, o runtime.Object) bool {
		if life == 0 {
			return false
		}
		life--
		raw := encoder.(versioned).bytes(o)
		if err := out.Encode(&metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: raw}}); err != nil {
			return false
		}
		q.w.(http.Flusher).Flush()
		return true
	}
	q.w.(http.Flusher).Flush()
	if initial {
		var ok bool
		if from, ok = a.initialEvents(q, send); !ok {
			return
		}
	}
	a.follow(q, from, send)
}

func (a *fakeAPI) initialEvents(q request, send func(string, runtime.Object) bool) (int, bool) {
	a.mu.Lock()
	var all []runtime.Object
	for _, o := range a.objects[q.resource] {
		if q.covers(o) {
			all = append(all, o)
		}
	}
	version := a.version
	a.mu.Unlock()
	for _, o := range all {
		if !send("ADDED", o) {
			return 0, false
		}
	}
	return version, send("BOOKMARK", bookmark(q.resource, version, true))
}

func bookmark(resource string, version int, end bool) runtime.Object {
	m := metav1.ObjectMeta{ResourceVersion: strconv.Itoa(version)}
	if end {
		m.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
	}
	switch resource {
	case "pods":
		return &corev1.Pod{ObjectMeta: m}
	case "nodes":
		return &corev1.Node{ObjectMeta: m}
	case "namespaces":
		return &corev1.Namespace{ObjectMeta: m}
	case "secrets":
		return &corev1.Secret{ObjectMeta: m}
	case "networkpolicies":
		return &networkingv1.NetworkPolicy{ObjectMeta: m}
	case "services":
		return &corev1.Service{ObjectMeta: m}
	case "endpointslices":
		return &discoveryv1.EndpointSlice{ObjectMeta: m}
	}
	return &v1alpha1.RemoteCluster{ObjectMeta: m}
}

func (a *fakeAPI) follow(q request, from int, send func(string, runtime.Object) bool) {
	for {
		a.mu.Lock()
		wake, silent, change := a.wake, a.silent, a.silentChange
		var due []logged
		for _, l := range a.log {
			if l.version > from && l.resource == q.resource && q.covers(l.object) {
				due = append(due, l)
			}
		}
		last := a.version
		lost := from < a.oldest // between two looks, which a real server would not
		a.mu.Unlock()
		if lost {
			return
		}
		if silent {
			select {
			case <-change:
				continue
			case <-q.r.Context().Done():
				return
			}
		}
		for _, l := range due {
			if !send(l.kind, l.object) {
				return
			}
		}
		if len(due) == 0 && last > from && !send("BOOKMARK", bookmark(q.resource, last, false)) {
			return
		}
		from = max(from, last)
		select {
		case <-wake:
		case <-q.r.Context().Done():
			return
		}
	}
}

// quick is a Timing for tests.
func quick() Timing {
	return Timing{
		ProbeAfter: 100 * time.Millisecond, ProbeTimeout: 2 * time.Second, PageTimeout: 5 * time.Second,
		RetryFirst: 2 * time.Millisecond, RetryMax: 20 * time.Millisecond, RetryTooLarge: 50 * time.Millisecond,
		ReportContact: time.Millisecond,
	}
}

func namespace(name, uid string, labels map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid), Labels: labels}}
}

func kubeconfigOf(server string, ca []byte, token string) []byte {
	doc := map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": []any{map[string]any{"name": "c", "cluster": map[string]any{"server": server, "certificate-authority-data": ca}}},
		"users":    []any{map[string]any{"name": "u", "user": map[string]any{"token": token}}},
		"contexts": []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "c", "user": "u"}}},
	}
	data, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return data
}
