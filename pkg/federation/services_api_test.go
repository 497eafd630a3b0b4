package federation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// apiServer is an API server over HTTP, for a real client: objects as JSON, with
// uids and resource versions, preconditions of updates and deletes, watches that
// may lag, server-side apply of conditions, and faults: one write in ten fails.
type apiServer struct {
	t      *testing.T
	random *rand.Rand

	mu      sync.Mutex
	version int
	uids    int
	objects map[string]map[string]any // by RESOURCE/NAMESPACE/NAME
	owners  map[string]string         // of conditions, by object and type: the field manager
	watches []*apiWatch
	// failing is one in how many writes that fails; 0: none.
	failing int
	lag     time.Duration
	down    bool
	// unlisted is what is answered to lists and watches of a resource.
	unlisted map[string]error
	// refuse is admission: an error is answered instead of the write; was is nil
	// for a create, is nil for a delete.
	refuse func(verb, resource string, was, is map[string]any) error
	// changed is told of every change, under the lock.
	changed func(resource string, is map[string]any, gone bool)
	wrote   []string      // VERB RESOURCE/NAMESPACE/NAME of writes that were done
	tried   int           // writes, whatever came of them
	hold    chan struct{} // if not nil, the next writes wait for it to be closed
}

type apiWatch struct {
	resource string
	selector labels.Selector
	events   chan apiEvent
}

type apiEvent struct {
	at   time.Time
	body []byte
}

func newAPIServer(t *testing.T, seed uint64) *apiServer {
	return &apiServer{
		t: t, random: rand.New(rand.NewPCG(seed, 7)), objects: map[string]map[string]any{}, owners: map[string]string{}, failing: 10, version: 100,
		refuse: agentAdmission,
	}
}

// client is a client of it without a rate limit.
func (s *apiServer) client() kubernetes.Interface {
	config := &rest.Config{
		Host: "http://api", QPS: -1, WarningHandler: rest.NoWarnings{},
		ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeJSON, AcceptContentTypes: runtime.ContentTypeJSON},
	}
	client, err := kubernetes.NewForConfigAndClient(config, &http.Client{Transport: s})
	if err != nil {
		s.t.Fatal(err)
	}
	return client
}

// apiRequest is a request, taken apart.
type apiRequest struct {
	*http.Request
	resource, namespace, name, sub string
	body                           []byte
}

// RoundTrip serves a request. Like a connection, it does nothing for a request
// whose context has ended.
func (s *apiServer) RoundTrip(r *http.Request) (*http.Response, error) {
	q := apiRequest{Request: r}
	if r.Body != nil {
		q.body, _ = io.ReadAll(r.Body)
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	parts = parts[slices.Index(parts, "v1")+1:]
	if parts[0] == "namespaces" && len(parts) > 2 {
		q.namespace, parts = parts[1], parts[2:]
	}
	parts = append(parts, "", "")
	q.resource, q.name, q.sub = parts[0], parts[1], parts[2]
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	hold := s.hold
	s.mu.Unlock()
	if r.Method != http.MethodGet && hold != nil {
		select {
		case <-hold: // the request is on its way, whatever happens to who sent it
		case <-time.After(time.Hour):
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, io.ErrUnexpectedEOF
	}
	if err := s.unlisted[q.resource]; err != nil && q.Method == http.MethodGet && q.name == "" {
		return answered(nil, err), nil
	}
	if r.URL.Query().Get("watch") != "" {
		return s.watch(&q)
	}
	object, err := s.serve(&q)
	if errors.Is(err, context.DeadlineExceeded) {
		s.mu.Unlock()
		<-r.Context().Done()
		s.mu.Lock()
		return nil, r.Context().Err()
	}
	return answered(object, err), nil
}

func answered(object any, err error) *http.Response {
	status := http.StatusOK
	if err != nil {
		failed := apierrors.APIStatus(nil)
		if !asStatus(err, &failed) {
			failed = apierrors.NewInternalError(err)
		}
		answer := failed.Status()
		answer.Kind, answer.APIVersion = "Status", "v1"
		object, status = answer, int(answer.Code)
	}
	body, _ := json.Marshal(object)
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)),
	}
}

func asStatus(err error, to *apierrors.APIStatus) bool {
	status, ok := err.(apierrors.APIStatus) //nolint:errorlint // of this file, never wrapped
	*to = status
	return ok
}

func (q *apiRequest) key() string { return path.Join(q.resource, q.namespace, q.name) }

func (q *apiRequest) group() schema.GroupResource { return schema.GroupResource{Resource: q.resource} }

func (s *apiServer) serve(q *apiRequest) (any, error) {
	have := s.objects[q.key()]
	if q.Method == http.MethodGet {
		switch {
		case q.name == "":
			return s.list(q), nil
		case have == nil:
			return nil, apierrors.NewNotFound(q.group(), q.name)
		}
		return have, nil
	}
	s.tried++
	late := false
	if s.failing > 0 && s.random.IntN(s.failing) == 0 {
		if late = s.random.IntN(2) == 0; !late {
			return nil, apierrors.NewInternalError(fmt.Errorf("etcd is gone"))
		}
	}
	object, err := s.write(q, have)
	if err == nil && late {
		return nil, apierrors.NewTimeoutError("written, and the answer was lost", 1)
	}
	return object, err
}

func (s *apiServer) list(q *apiRequest) any {
	selector, _ := labels.Parse(q.URL.Query().Get("labelSelector"))
	items := []any{}
	for key, o := range s.objects {
		if strings.HasPrefix(key, q.resource+"/") && selector.Matches(labels.Set(labelsOf(o))) {
			items = append(items, o)
		}
	}
	version, kind := typeOf(q.resource)
	return map[string]any{
		"apiVersion": version, "kind": kind + "List",
		"metadata": map[string]any{"resourceVersion": strconv.Itoa(s.version)}, "items": items,
	}
}

func (s *apiServer) watch(q *apiRequest) (*http.Response, error) {
	if q.URL.Query().Get("sendInitialEvents") == "true" {
		return answered(nil, apierrors.NewInvalid(schema.GroupKind{}, "", nil)), nil
	}
	if q.URL.Query().Get("resourceVersion") != strconv.Itoa(s.version) {
		return answered(nil, apierrors.NewResourceExpired("too old: list again")), nil
	}
	selector, _ := labels.Parse(q.URL.Query().Get("labelSelector"))
	w := &apiWatch{resource: q.resource, selector: selector, events: make(chan apiEvent, 10000)}
	s.watches = append(s.watches, w)
	reader, writer := io.Pipe()
	go func() {
		for {
			select {
			case e, ok := <-w.events:
				if !ok {
					_ = writer.Close()
					return
				}
				time.Sleep(time.Until(e.at))
				if _, err := writer.Write(e.body); err != nil {
					return
				}
			case <-q.Context().Done():
				_ = writer.CloseWithError(q.Context().Err())
				return
			}
		}
	}()
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: reader}, nil
}

// cut ends all watches and, if down, refuses everything until told otherwise.
func (s *apiServer) cut(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
	for _, w := range s.watches {
		close(w.events)
	}
	s.watches = nil
}

func (s *apiServer) write(q *apiRequest, have map[string]any) (map[string]any, error) {
	if q.Method == http.MethodDelete {
		return s.delete(q, have)
	}
	want := map[string]any{}
	if err := json.Unmarshal(q.body, &want); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	meta := metaOf(want)
	if q.Method == http.MethodPost {
		q.name, _ = meta["name"].(string)
		if q.name == "" {
			q.name, _ = meta["generateName"].(string)
			q.name += fmt.Sprintf("%05d", s.random.IntN(100000))
			meta["name"] = q.name
		}
		switch {
		case meta["resourceVersion"] != nil:
			return nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
		case s.objects[q.key()] != nil:
			return nil, apierrors.NewAlreadyExists(q.group(), q.name)
		}
		if err := s.refuse("create", q.resource, nil, want); err != nil {
			return nil, err
		}
		s.uids++
		meta["namespace"], meta["uid"] = q.namespace, fmt.Sprintf("00000000-0000-4000-8000-%012d", s.uids)
		meta["creationTimestamp"] = "2026-11-22T12:00:00Z"
		return s.store("create", q, want, nil), nil
	}
	if have == nil {
		return nil, apierrors.NewNotFound(q.group(), q.name)
	}
	for field, of := range map[string]any{"uid": metaOf(have)["uid"], "resourceVersion": metaOf(have)["resourceVersion"]} {
		if meta[field] != nil && meta[field] != of {
			return nil, apierrors.NewConflict(q.group(), q.name, fmt.Errorf("%s is %v, not %v", field, of, meta[field]))
		}
		if meta[field] == nil {
			s.t.Errorf("%s %s without %s", q.Method, q.key(), field)
		}
	}
	verb := "update"
	if q.Method == http.MethodPatch {
		verb, want = "apply", s.applied(q, have, want)
	}
	if err := s.refuse(verb, q.resource, have, want); err != nil {
		return nil, err
	}
	return s.store(verb, q, want, have), nil
}

// applied is a Service on which a field manager applies conditions.
func (s *apiServer) applied(q *apiRequest, have, want map[string]any) map[string]any {
	manager := q.URL.Query().Get("fieldManager")
	if q.resource != "services" || q.sub != "status" || manager == "" {
		s.t.Errorf("an apply of %s/%s by %q", q.key(), q.sub, manager)
	}
	next := copied(have)
	var all []any
	for _, c := range conditionsOf(have) {
		if s.owners[q.key()+c["type"].(string)] != manager {
			all = append(all, c)
		}
	}
	for _, c := range conditionsOf(want) {
		s.owners[q.key()+c["type"].(string)] = manager
		all = append(all, c)
	}
	status, _ := next["status"].(map[string]any)
	if status == nil {
		status = map[string]any{}
		next["status"] = status
	}
	status["conditions"] = all
	return next
}

func (s *apiServer) delete(q *apiRequest, have map[string]any) (map[string]any, error) {
	opts := metav1.DeleteOptions{}
	if err := json.Unmarshal(q.body, &opts); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if have == nil {
		return nil, apierrors.NewNotFound(q.group(), q.name)
	}
	p := opts.Preconditions
	if p == nil || p.UID == nil || p.ResourceVersion == nil {
		s.t.Errorf("a delete of %s without preconditions", q.key())
		return nil, apierrors.NewBadRequest("preconditions")
	}
	if string(*p.UID) != metaOf(have)["uid"] || *p.ResourceVersion != metaOf(have)["resourceVersion"] {
		return nil, apierrors.NewConflict(q.group(), q.name, fmt.Errorf("precondition failed"))
	}
	if err := s.refuse("delete", q.resource, have, nil); err != nil {
		return nil, err
	}
	s.wrote = append(s.wrote, "delete "+q.key())
	s.remove(q.key())
	return map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"}, nil
}

func (s *apiServer) remove(key string) {
	have := copied(s.objects[key])
	delete(s.objects, key)
	s.version++
	metaOf(have)["resourceVersion"] = strconv.Itoa(s.version)
	s.tell(key, have, nil)
}

// store puts an object there, if it is another one than before.
func (s *apiServer) store(verb string, q *apiRequest, want, was map[string]any) map[string]any {
	key := q.key()
	s.wrote = append(s.wrote, verb+" "+key)
	return s.put(key, want, was)
}

func (s *apiServer) put(key string, want, was map[string]any) map[string]any {
	if was != nil {
		for _, field := range []string{"uid", "resourceVersion", "creationTimestamp"} {
			metaOf(want)[field] = metaOf(was)[field]
		}
		if string(mustJSON(was)) == string(mustJSON(want)) {
			return was
		}
	}
	s.version++
	metaOf(want)["resourceVersion"] = strconv.Itoa(s.version)
	resource, _, _ := strings.Cut(key, "/")
	want["apiVersion"], want["kind"] = typeOf(resource)
	s.objects[key] = want
	s.tell(key, was, want)
	return want
}

// tell tells the watches of a change.
func (s *apiServer) tell(key string, was, is map[string]any) {
	resource, _, _ := strings.Cut(key, "/")
	for _, w := range s.watches {
		if w.resource != resource {
			continue
		}
		had := was != nil && w.selector.Matches(labels.Set(labelsOf(was)))
		has := is != nil && w.selector.Matches(labels.Set(labelsOf(is)))
		event := map[string]any{"object": is}
		switch {
		case had && has:
			event["type"] = "MODIFIED"
		case has:
			event["type"] = "ADDED"
		case had: // with the resource version by which it is not there any more
			gone := copied(was)
			metaOf(gone)["resourceVersion"] = strconv.Itoa(s.version)
			event["type"], event["object"] = "DELETED", gone
		default:
			continue
		}
		w.events <- apiEvent{time.Now().Add(s.lag), mustJSON(event)}
	}
	if s.changed != nil {
		if is == nil {
			s.changed(resource, was, true)
		} else {
			s.changed(resource, is, false)
		}
	}
}

// edit is what somebody else does; nil: the object goes.
func (s *apiServer) edit(resource, namespace, name string, change func(o map[string]any) map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := path.Join(resource, namespace, name)
	was := s.objects[key]
	var next map[string]any
	if was == nil {
		s.uids++
		next = map[string]any{"metadata": map[string]any{
			"namespace": namespace, "name": name, "uid": fmt.Sprintf("00000000-0000-4000-8000-%012d", s.uids),
			"creationTimestamp": "2026-11-22T12:00:00Z",
		}}
	} else {
		next = copied(was)
	}
	if next = change(next); next == nil {
		if was != nil {
			s.remove(key)
		}
		return
	}
	s.put(key, next, was)
}

func (s *apiServer) do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// stored are all objects of a resource, decoded.
func stored[T any](s *apiServer, resource string) map[string]*T {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]*T{}
	for key, o := range s.objects {
		if name, ok := strings.CutPrefix(key, resource+"/"); ok {
			x := new(T)
			if err := json.Unmarshal(mustJSON(o), x); err != nil {
				s.t.Fatal(err)
			}
			all[name] = x
		}
	}
	return all
}

// writes are those done since the last call.
func (s *apiServer) writes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.wrote
	s.wrote = nil
	return all
}
