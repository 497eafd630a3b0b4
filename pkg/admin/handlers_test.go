package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func quiet() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}

func testServer(s *agent.Snapshot) *Server {
	return NewServer(Config{Self: self(), Now: noon}, fixed{s}, quiet())
}

// ask is an answer of the socket's handler to root.
func ask(t *testing.T, s *agent.Snapshot, method, path string) (int, []byte) {
	t.Helper()
	w := httptest.NewRecorder()
	server := testServer(s)
	server.socketHandler(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, w.Body.Bytes()
}

func get(t *testing.T, s *agent.Snapshot, path string) (int, []byte) {
	t.Helper()
	return ask(t, s, http.MethodGet, path)
}

func indented(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return b.Bytes()
}

func TestAnswers(t *testing.T) {
	tests := []struct {
		golden   string
		snapshot *agent.Snapshot
		path     string
	}{
		{"status.json", world(), "/v1/status"},
		{"status-starting.json", nil, "/v1/status"},
		{"status-unlisted.json", unlisted(false), "/v1/status"},
		{"status-restored.json", unlisted(true), "/v1/status"},
		{"clusters.json", world(), "/v1/clusters"},
		{"endpoints.json", world(), "/v1/endpoints"},
		{"eval.json", world(), "/v1/eval?expression=" + url.QueryEscape(`app=="redis"  &&has(namespace.overland.dev/team)`)},
		{"endpoint.json", world(), "/v1/endpoints/shop/cart-0"},
		{"endpoint-refused.json", world(), "/v1/endpoints/shop/thief?cluster=canada"},
	}
	for _, tt := range tests {
		t.Run(tt.golden, func(t *testing.T) {
			code, body := get(t, tt.snapshot, tt.path)
			if code != http.StatusOK {
				t.Fatalf("status %d: %s", code, body)
			}
			golden(t, tt.golden, indented(t, body))
		})
	}
}

// names are the endpoints of an answer, as CLUSTER/[NAMESPACE/]NAME.
func names(t *testing.T, body []byte) []string {
	t.Helper()
	var l api.EndpointList
	if err := json.Unmarshal(body, &l); err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for _, e := range l.Items {
		all = append(all, strings.ReplaceAll(e.Cluster+"/"+e.Namespace+"/"+e.Name, "//", "/"))
	}
	return all
}

func TestEndpointsAreFilteredAndSorted(t *testing.T) {
	const (
		cart, redis  = "west/shop/cart-0", "west/redis/redis-0"
		one, two     = "west/node-1", "west/node-2"
		demo, thief  = "canada/redis/demo-clusterb-0", "canada/shop/thief"
		canadaNode   = "canada/node-1"
		all          = "/v1/endpoints"
		clusterLabel = "cluster.overland.dev/region"
	)
	tests := []struct {
		name  string
		query url.Values
		want  []string
	}{
		{"no filter: local first, pods before nodes", nil, []string{redis, cart, one, two, demo, thief, canadaNode}},
		{"cluster", url.Values{"cluster": {"canada"}}, []string{demo, thief, canadaNode}},
		{"cluster without endpoints", url.Values{"cluster": {"europe"}}, []string{}},
		{"namespace", url.Values{"namespace": {"redis"}}, []string{redis, demo}},
		{"kind", url.Values{"kind": {"Node"}}, []string{one, two, canadaNode}},
		{"all filters", url.Values{"cluster": {"west"}, "namespace": {"shop"}, "kind": {"Pod"}, "labelSelector": {"app=cart"}}, []string{cart}},
		{"label", url.Values{"labelSelector": {"app in (redis),!tier"}}, []string{redis, demo}},
		{"reserved label", url.Values{"labelSelector": {"app,overland.dev/cluster!=west"}}, []string{demo, thief}},
		{"cluster label", url.Values{"labelSelector": {clusterLabel + "=canada,overland.dev/kind=Pod"}}, []string{demo, thief}},
		{"namespace label", url.Values{"labelSelector": {"namespace.overland.dev/team=web"}}, []string{cart}},
		{"service account", url.Values{"labelSelector": {"overland.dev/service-account=cart"}}, []string{cart}},
		{"label that nothing has", url.Values{"labelSelector": {"nope"}}, []string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, body := get(t, world(), all+"?"+tt.query.Encode())
			if code != http.StatusOK {
				t.Fatalf("status %d: %s", code, body)
			}
			if diff := cmp.Diff(tt.want, names(t, body)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestEvalSelectsPodsUnlessKindIsMentioned(t *testing.T) {
	tests := []struct {
		expression string
		want       []string
	}{
		{"", []string{"west/redis/redis-0", "west/shop/cart-0", "canada/redis/demo-clusterb-0", "canada/shop/thief"}},
		{"all()", []string{"west/redis/redis-0", "west/shop/cart-0", "canada/redis/demo-clusterb-0", "canada/shop/thief"}},
		{"overland.dev/kind == 'Node'", []string{"west/node-1", "west/node-2", "canada/node-1"}},
		{"has(overland.dev/kind) && overland.dev/cluster != 'west'", []string{"canada/redis/demo-clusterb-0", "canada/shop/thief", "canada/node-1"}},
		{"pool == 'one'", []string{}},
		{"overland.dev/namespace == 'redis' && cluster.overland.dev/region starts with 'us'", []string{"west/redis/redis-0"}},
		{"!has(nope) && app contains 'ar'", []string{"west/shop/cart-0", "canada/shop/thief"}},
	}
	for _, tt := range tests {
		t.Run(tt.expression, func(t *testing.T) {
			code, body := get(t, world(), "/v1/eval?expression="+url.QueryEscape(tt.expression))
			if code != http.StatusOK {
				t.Fatalf("status %d: %s", code, body)
			}
			if diff := cmp.Diff(tt.want, names(t, body)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPartialIsAboutWhatWasAsked(t *testing.T) {
	synced := world()
	synced.Clusters = slices.Clone(synced.Clusters)
	synced.Clusters[1].Restored = false
	synced.Clusters[1].Status.State = model.StateInSync
	tooLarge := world()
	tooLarge.Clusters = slices.Clone(synced.Clusters)
	tooLarge.Clusters[1].Status.Reason = model.ReasonTooLarge
	suspended := world()
	suspended.Clusters = slices.Clone(synced.Clusters)
	suspended.Clusters[1].Status.State = model.StateSuspended
	silent := unlisted(false)
	silent.Clusters = nil
	tests := []struct {
		name     string
		snapshot *agent.Snapshot
		path     string
		want     []string
	}{
		{"all clusters", world(), "/v1/endpoints", []string{"canada"}},
		{"the one out of contact", world(), "/v1/endpoints?cluster=canada", []string{"canada"}},
		{"another one", world(), "/v1/endpoints?cluster=west", nil},
		{"a pod of the local cluster", world(), "/v1/endpoints/shop/cart-0", nil},
		{"an expression is about all", world(), "/v1/eval?expression=", []string{"canada"}},
		{"status", world(), "/v1/status", []string{"canada"}},
		{"in sync", synced, "/v1/endpoints", nil},
		{"too large", tooLarge, "/v1/endpoints", []string{"canada"}},
		{"suspended", suspended, "/v1/endpoints", []string{"canada"}},
		{"local not listed", unlisted(false), "/v1/endpoints", []string{"west"}},
		{"local restored", unlisted(true), "/v1/clusters", []string{"west"}},
		{"local has no status yet", silent, "/v1/endpoints", []string{"west"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, body := get(t, tt.snapshot, tt.path)
			var h api.Header
			if err := json.Unmarshal(body, &h); err != nil || code != http.StatusOK {
				t.Fatalf("status %d, %v: %s", code, err, body)
			}
			var got []string
			for _, p := range h.PartialClusters {
				got = append(got, p.Name)
			}
			if !slices.Equal(got, tt.want) || h.Partial != (len(tt.want) > 0) {
				t.Errorf("partial %v of %v, want %v", h.Partial, got, tt.want)
			}
		})
	}
}

func TestRefusedRequestsSayWhatIsExpected(t *testing.T) {
	bad := url.QueryEscape("app = 'redis'")
	tests := []struct {
		name, method, path string
		snapshot           *agent.Snapshot
		status             int
		code               string
		message            string // a part
	}{
		{"unknown path", "GET", "/v2/status", world(), 404, api.CodeNotFound, "expected /v1/status, "},
		{"method", "POST", "/v1/status", world(), 405, api.CodeNotAllowed, "only GET is served"},
		{"unknown parameter", "GET", "/v1/endpoints?ns=a", world(), 400, api.CodeInvalid, `unknown parameter "ns": expected cluster, namespace, labelSelector, kind`},
		{"unknown parameter where none is known", "GET", "/v1/status?x=1", world(), 400, api.CodeInvalid, "none is expected"},
		{"unknown parameter of clusters", "GET", "/v1/clusters?cluster=west", world(), 400, api.CodeInvalid, "none is expected"},
		{"parameter twice", "GET", "/v1/endpoints?cluster=west&cluster=canada", world(), 400, api.CodeInvalid, "expected once"},
		{"query", "GET", "/v1/endpoints?cluster=%zz", world(), 400, api.CodeInvalid, "the query cannot be read"},
		{"kind", "GET", "/v1/endpoints?kind=pod", world(), 400, api.CodeInvalid, `kind "pod": expected Pod or Node`},
		{"label selector", "GET", "/v1/endpoints?labelSelector=a%3D%3D%3Db", world(), 400, api.CodeInvalid, `label selector "a===b": `},
		{"reserved key of a label selector", "GET", "/v1/endpoints?labelSelector=overland.dev/clutser", world(), 400, api.CodeInvalid, "unknown reserved key overland.dev/clutser: expected overland.dev/cluster, "},
		{"cluster", "GET", "/v1/endpoints?cluster=nada", world(), 404, api.CodeNotFound, `no cluster "nada" is linked: expected one of west, canada, europe`},
		{"cluster of an endpoint", "GET", "/v1/endpoints/a/b?cluster=nada", world(), 404, api.CodeNotFound, `no cluster "nada"`},
		{"endpoint", "GET", "/v1/endpoints/redis/demo-clusterb-0", world(), 404, api.CodeNotFound, "no endpoint redis/demo-clusterb-0 in cluster west: there is no such pod, or it has no address yet"},
		{"path below an endpoint", "GET", "/v1/endpoints/a/b/c", world(), 404, api.CodeNotFound, "no such path"},
		{"no expression", "GET", "/v1/eval", world(), 400, api.CodeInvalid, `parameter "expression" is missing`},
		{"syntax", "GET", "/v1/eval?expression=" + bad, world(), 400, api.CodeInvalid, "expression: position 4: expected "},
		{"reserved key of an expression", "GET", "/v1/eval?expression=has(overland.dev/x)", world(), 400, api.CodeInvalid, "unknown reserved key overland.dev/x"},
		{"wrong before starting", "GET", "/v1/eval?expression=" + bad, nil, 400, api.CodeInvalid, "position"},
		{"clusters while starting", "GET", "/v1/clusters", nil, 503, api.CodeStarting, "the agent is starting"},
		{"endpoints while starting", "GET", "/v1/endpoints", nil, 503, api.CodeStarting, "the agent is starting"},
		{"endpoint while starting", "GET", "/v1/endpoints/a/b", nil, 503, api.CodeStarting, "the agent is starting"},
		{"eval before the first step", "GET", "/v1/eval?expression=", &agent.Snapshot{}, 503, api.CodeStarting, "the agent is starting"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, body := ask(t, tt.snapshot, tt.method, tt.path)
			var e api.Error
			if err := json.Unmarshal(body, &e); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if code != tt.status || e.Code != tt.code || e.Kind != api.KindError || e.APIVersion != api.Version || !strings.Contains(e.Message, tt.message) {
				t.Errorf("%d %+v, want %d %s …%s…", code, e, tt.status, tt.code, tt.message)
			}
		})
	}
}

func TestSyntaxErrorHasItsPosition_4_3(t *testing.T) {
	_, body := get(t, world(), "/v1/eval?expression="+url.QueryEscape("app == 'redis' &&"))
	var e api.Error
	if err := json.Unmarshal(body, &e); err != nil {
		t.Fatal(err)
	}
	if e.Offset == nil || *e.Offset != 17 || e.Expected == "" {
		t.Errorf("got %s, want offset 17 and what is expected", body)
	}
}

// A list is written item by item, and is the JSON of the type.
func TestStreamIsTheWireType(t *testing.T) {
	_, body := get(t, world(), "/v1/endpoints")
	var l api.EndpointList
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&l); err != nil {
		t.Fatal(err)
	}
	var whole, streamed bytes.Buffer
	if err := encoder(&whole).Encode(l); err != nil {
		t.Fatal(err)
	}
	if err := json.Compact(&streamed, body); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSpace(whole.String()), strings.TrimSpace(streamed.String())); diff != "" {
		t.Errorf("(-whole +streamed):\n%s", diff)
	}
}

// brokenPipe takes some bytes, then nobody reads any more.
type brokenPipe struct {
	header http.Header
	left   int
}

var errPipe = errors.New("broken pipe")

func (b *brokenPipe) Header() http.Header { return b.header }
func (b *brokenPipe) WriteHeader(int)     {}
func (b *brokenPipe) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errPipe
	}
	return len(p), nil
}

func manyPods(n int) *agent.Snapshot {
	s := world()
	x := index.New()
	x.Apply(model.Set(westFact()))
	for i := range n {
		x.Apply(model.Set(&model.Endpoint{
			Key: model.PodKey("west", "n", fmt.Sprintf("pod-%05d", i)), Node: "node-1",
			Addresses: addresses(fmt.Sprintf("10.1.%d.%d", i>>8, i&255)), Labels: labelSet("a", strings.Repeat("x", 60)),
		}))
	}
	s.View = x.View()
	return s
}

func TestReaderThatLeavesEndsTheAnswer(t *testing.T) {
	server := testServer(manyPods(2000))
	h := server.list(endpoints)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		ctx  context.Context
		left int
	}{"write fails": {t.Context(), 100 << 10}, "context ends": {ctx, 1 << 30}} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // it is what net/http compares with
					t.Errorf("panic %v, want the connection aborted: the reader must not take it for complete", p)
				}
				if len(server.lists.turns) != 0 {
					t.Error("the turn was not given back")
				}
			}()
			r := httptest.NewRequest(http.MethodGet, "/v1/endpoints", nil)
			// A turn is free, so the context is looked at only while writing.
			h(&brokenPipe{http.Header{}, tt.left}, r.WithContext(tt.ctx))
		})
	}
}

func TestTooManyListsAtOnceAreBusy(t *testing.T) {
	server := testServer(world())
	for range maxLists {
		if !server.lists.enter(t.Context()) {
			t.Fatal("no turn")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // no waiting in a test
	w := httptest.NewRecorder()
	server.list(endpoints)(w, httptest.NewRequest(http.MethodGet, "/v1/endpoints", nil).WithContext(ctx))
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), api.CodeBusy) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestReadyWithTheLocalClusterOnly_3_6(t *testing.T) {
	restoredLocal := unlisted(true)
	for name, tt := range map[string]struct {
		snapshot *agent.Snapshot
		want     int
		body     string
	}{
		"nothing yet":                       {nil, 503, "starting: the local cluster has not been listed yet\n"},
		"local not listed":                  {unlisted(false), 503, "starting: the local cluster has not been listed yet (OutOfContact)\n"},
		"local restored":                    {restoredLocal, 200, "ok\n"},
		"local in sync, a remote is silent": {world(), 200, "ok\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, body := get(t, tt.snapshot, "/readyz"); code != tt.want || string(body) != tt.body {
				t.Errorf("%d %q, want %d %q", code, body, tt.want, tt.body)
			}
			if code, _ := get(t, tt.snapshot, "/livez"); code != http.StatusOK {
				t.Errorf("livez %d", code)
			}
		})
	}
}
