package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/model"
)

func TestAnswersAboutEnforcement(t *testing.T) {
	s := enforced(t)
	for _, tt := range []struct {
		golden string
		dp     Dataplane
		path   string
	}{
		{"status-enforced.json", applied(s), "/v1/status"},
		{"status-behind.json", behind(s), "/v1/status"},
		{"policies.json", applied(s), "/v1/policies"},
		{"policies-all.json", applied(s), "/v1/policies?all=true&namespace=shop"},
		{"policy.json", applied(s), "/v1/policies/redis/only-carts"},
		{"policy-mesh.json", applied(s), "/v1/policies/shop/carts-out"},
		{"policy-inactive.json", applied(s), "/v1/policies/shop/none-here"},
		{"endpoint-enforced.json", applied(s), "/v1/endpoints/redis/redis-0"},
		{"endpoint-behind.json", behind(s), "/v1/endpoints/redis/redis-0"},
	} {
		t.Run(tt.golden, func(t *testing.T) {
			code, body := askWith(t, s, tt.dp, tt.path)
			if code != http.StatusOK {
				t.Fatalf("status %d: %s", code, body)
			}
			golden(t, tt.golden, indented(t, body))
		})
	}
}

func TestMetricsOfTheDataplane(t *testing.T) {
	s := enforced(t)
	golden(t, "metrics-enforced.txt", pageWith(t, s, applied(s)))
	golden(t, "metrics-behind.txt", pageWith(t, s, behind(s)))
}

func decode[T any](t *testing.T, s *agent.Snapshot, dp Dataplane, path string) *T {
	t.Helper()
	code, body := askWith(t, s, dp, path)
	if code != http.StatusOK {
		t.Fatalf("%s: status %d: %s", path, code, body)
	}
	value := new(T)
	if err := json.Unmarshal(body, value); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestWhetherAPodIsEnforcedAndWhyNot(t *testing.T) {
	s := enforced(t)
	for _, tt := range []struct {
		name   string
		pod    string
		dp     func() Dataplane
		here   bool
		force  bool
		reason string // part
	}{
		{"in force", "redis/redis-0", func() Dataplane { return applied(s) }, true, true, ""},
		{"on another node", "shop/cart-1", func() Dataplane { return applied(s) }, false, false, "policies are enforced on its node"},
		{"no interface", "shop/waiting", func() Dataplane { return applied(s) }, true, false, "no interface azv"},
		{"nothing enforces", "redis/redis-0", func() Dataplane { return nil }, true, false, "nothing enforces policies"},
		{"refused", "redis/redis-0", func() Dataplane { return behind(s) }, true, false, "no lock"},
		{"nothing applied", "redis/redis-0", func() Dataplane {
			f := behind(s)
			f.ready = nil
			return f
		}, true, false, "nothing is in force on this node yet: no lock"},
		{"old rules", "redis/redis-0", func() Dataplane {
			f, old := behind(s), *s.Desired
			rules := *old.Rules
			rules.Endpoints = slices.Clone(rules.Endpoints)
			for i := range rules.Endpoints {
				rules.Endpoints[i].Ingress = nil
			}
			old.Rules, old.Gen, f.ready = &rules, old.Gen-1, nil
			f.status.State = &old
			return f
		}, true, false, "the kernel still holds what was wanted before for 1m30s: no lock"},
		{"old members", "redis/redis-0", func() Dataplane {
			f, old := behind(s), *s.Desired
			old.Gen, f.ready = old.Gen-1, nil
			f.status.State = &old
			return f
		}, true, false, "members of sets may still be those of before"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := decode[api.EndpointDetails](t, s, tt.dp(), "/v1/endpoints/"+tt.pod).Enforcement
			if e == nil || e.Here != tt.here || e.InForce != tt.force || !strings.Contains(e.Reason, tt.reason) || (e.Reason == "") != tt.force {
				t.Errorf("got %+v", e)
			}
		})
	}
	if d := decode[api.EndpointDetails](t, s, applied(s), "/v1/endpoints/redis/redis-0?cluster=canada"); d.Enforcement != nil {
		t.Errorf("a pod of another cluster: %+v", d.Enforcement)
	}
}

func TestAPeerPastALimitIsNotInForce_2_13(t *testing.T) {
	s := enforced(t)
	d := *s.Desired
	rules := *d.Rules
	rules.Endpoints = slices.Clone(rules.Endpoints)
	d.Rules, s.Desired = &rules, &d
	for i := range rules.Endpoints {
		if side := rules.Endpoints[i].Ingress; side != nil {
			fewer := *side
			fewer.Origins = slices.Clone(side.Origins)
			for n := range fewer.Origins {
				fewer.Origins[n] = nil
			}
			rules.Endpoints[i].Ingress = &fewer
		}
	}
	p := decode[api.PolicyDetails](t, s, applied(s), "/v1/policies/redis/only-carts")
	for _, peer := range p.Rules[0].Peers {
		if peer.InForce {
			t.Errorf("%s is in force", peer.Field)
		}
	}
}

// TestReadinessAndStatusAgree: /readyz, status and Problems tell the same.
func TestReadinessAndStatusAgree(t *testing.T) {
	s := enforced(t)
	for _, tt := range []struct {
		name     string
		snapshot *agent.Snapshot
		dp       Dataplane
		want     string
		problems int
	}{
		{"in force", s, applied(s), "", 0},
		{"behind", s, behind(s), "starting: dataplane iptables: no lock", 1},
		{"no dataplane", s, nil, "", 0},
		{"starting", nil, behind(s), "starting: the local cluster has not been listed yet", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status := decode[api.Status](t, tt.snapshot, tt.dp, "/v1/status")
			code, body := askWith(t, tt.snapshot, tt.dp, "/readyz")
			ready := tt.want == ""
			wantBody := "ok\n"
			if !ready {
				wantBody = tt.want + "\n"
			}
			if status.Ready != ready || status.NotReady != tt.want || (code == http.StatusOK) != ready || string(body) != wantBody {
				t.Errorf("ready %v %q, /readyz %d %q", status.Ready, status.NotReady, code, body)
			}
			n := 0
			for _, p := range status.Problems {
				if p.Kind == string(model.ProblemDataplane) {
					n++
					if p.Object != (api.Reference{Kind: "Node", Cluster: "west", Name: "node-1"}) {
						t.Errorf("the problem is about %+v", p.Object)
					}
				}
			}
			if n != tt.problems {
				t.Errorf("%d problems of the dataplane, want %d: %+v", n, tt.problems, status.Problems)
			}
		})
	}
}

func TestProblemsStayInOrderAndAreToldOnce(t *testing.T) {
	s := world()
	p := model.Problem{Kind: model.ProblemDataplane, Message: "x"}
	e := &enforcing{status: dataplane.Status{Problems: []model.Problem{p, p}}}
	var got []string
	for _, p := range problems(s, e) {
		got = append(got, fmt.Sprint(p.Kind, " ", p.Message))
	}
	want := []string{"AddressRefused 2 addresses are refused", "Cluster Unreachable", "Dataplane x", "Policy impossible selector"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(s.Problems) != 3 {
		t.Error("the snapshot was changed")
	}
}
