package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/federation"
)

// federating is what an agent knows of federated Services.
type federating struct {
	own       federation.ServicesSnapshot
	published *federation.Reports
	err       error
}

func (f *federating) Snapshot() (*federation.ServicesSnapshot, <-chan struct{}) { return &f.own, nil }

func (f *federating) Published(context.Context) (*federation.Reports, error) {
	return f.published, f.err
}

func federatedServices() []api.Service {
	return []api.Service{
		{
			Namespace: "redis", Name: "testdb-federated", UID: "00000000-0000-4000-8000-0000000000b1", Expression: `federation == "yes"`,
			Federated: api.ServiceCondition{Status: "True", Reason: "InSync", Message: "2 endpoints"}, Ready: 2, Published: 2,
			Clusters: []api.ServiceCluster{
				{Name: "west", State: "Serving", Backing: []string{"testdb"}, BackingCount: 1, Taken: 1, Ready: 1, Published: 1},
				{
					Name: "canada", State: "Serving", Partial: true, Backing: []string{"testdb"}, BackingCount: 1, Taken: 1, Ready: 1, Published: 1,
					Refused: []api.RefusedAddresses{{Reason: "NotOwned", Count: 2, Examples: []string{"10.2.1.7"}}},
				},
			},
		},
		{
			Namespace: "shop", Name: "front", Federated: api.ServiceCondition{Status: "False", Reason: "ForeignEndpoints"}, Clusters: []api.ServiceCluster{},
			Foreign:  []api.ForeignObject{{Kind: "Endpoints", Name: "front", Command: "kubectl delete endpoints --namespace shop front"}},
			Problems: []string{"a problem"},
		},
	}
}

func leading() *federating {
	return &federating{
		own: federation.ServicesSnapshot{
			Leading: true, Leader: "overland-agent-abcde", Whole: true, At: ago(3 * time.Second), Reports: federatedServices(),
			Published: map[string]int{"west": 1, "canada": 1},
			Totals: federation.ServicesTotals{
				Writes: map[federation.Write]uint64{{Kind: "EndpointSlice", Op: "create", Result: federation.ResultOK}: 2},
				Bytes:  map[string]uint64{"EndpointSlice": 900}, Plans: 7, PlanTime: 3 * time.Millisecond, LongestPlan: time.Millisecond,
			},
		},
		err: errors.New("not to be asked"),
	}
}

func following(at time.Time) *federating {
	return &federating{published: &federation.Reports{Format: 1, Leader: "overland-agent-abcde", Written: at, Services: federatedServices()}}
}

func askServices(t *testing.T, s *agent.Snapshot, services Services, path string) (int, []byte) {
	t.Helper()
	server := NewServer(Config{Self: self(), Now: noon, Services: services}, fixed{s}, quiet())
	w := httptest.NewRecorder()
	server.socketHandler(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.Bytes()
}

func TestServices(t *testing.T) {
	for _, tt := range []struct {
		file, path string
		from       Services
		status     int
	}{
		{"services-own.json", "/v1/services", leading(), 200},
		{"services-published.json", "/v1/services?namespace=shop", following(ago(20 * time.Second)), 200},
		{"services-none.json", "/v1/services", &federating{err: errors.New("no agent has published anything")}, 200},
		{"service.json", "/v1/services/redis/testdb-federated", following(ago(time.Minute)), 200},
		{"service-missing.json", "/v1/services/redis/testdb", leading(), 404},
		{"service-unknown.json", "/v1/services/redis/testdb", following(ago(time.Hour)), 404},
		{"services-wrong.json", "/v1/services?name=x", leading(), 400},
	} {
		status, text := askServices(t, world(), tt.from, tt.path)
		if status != tt.status {
			t.Errorf("%s: status %d", tt.path, status)
		}
		golden(t, tt.file, indented(t, text))
	}
}

func TestAnAnswerAboutServicesSaysWhatItLacks(t *testing.T) {
	left := following(ago(time.Second))
	left.published.LeftOut = 7
	begun := following(ago(time.Second))
	begun.own = federation.ServicesSnapshot{Leading: true}
	waits := following(ago(time.Second))
	waits.own = federation.ServicesSnapshot{Leading: true, Waits: "the RemoteClusters have not been listed"}
	synced := world()
	synced.Clusters = synced.Clusters[:1]
	for name, tt := range map[string]struct {
		from Services
		want string
	}{
		"own":          {leading(), ""},
		"published":    {following(ago(5 * time.Minute)), ""},
		"old":          {following(ago(20 * time.Minute)), "nobody has published anything newer"},
		"left out":     {left, "7 federated Services are not in what the leader publishes"},
		"just leading": {begun, "has just begun to lead"},
		"waiting":      {waits, "the RemoteClusters have not been listed"},
		"unreadable":   {&federating{err: errors.New("forbidden")}, "cannot be read: forbidden"},
		"no part":      {nil, "no part in federation"},
	} {
		_, text := askServices(t, synced, tt.from, "/v1/services")
		l := new(api.ServiceList)
		if err := json.Unmarshal(text, l); err != nil {
			t.Fatal(err)
		}
		if l.Partial != (tt.want != "") || !strings.Contains(l.Origin.Problem, tt.want) || tt.want == "" && l.Origin.Problem != "" {
			t.Errorf("%s: partial %v, problem %q, want %q", name, l.Partial, l.Origin.Problem, tt.want)
		}
	}
}

func TestMetricsOfFederation(t *testing.T) {
	golden(t, "metrics-leading.txt", pageOf(t, world(), Config{Self: self(), Now: noon, Services: leading()}))
}
