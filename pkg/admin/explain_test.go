package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

func explainPath(source, destination, port string) string {
	return api.PathExplain + "?" + url.Values{
		api.ParamSource: {source}, api.ParamDestination: {destination}, api.ParamPort: {port},
	}.Encode()
}

// summary is the flows of an explanation, a line each: result, addresses, port
// and checks, those that packets do not come to in parentheses.
func summary(x *api.Explanation) []string {
	var all []string
	for i := range x.Flows {
		f := &x.Flows[i]
		line := fmt.Sprintf("%s %s > %s %d/%s:", f.Result, f.Source, f.Destination, f.Port, f.Protocol)
		for _, c := range f.Checks {
			check := c.Kind + " no"
			if c.Allowed {
				check = c.Kind + " yes"
			}
			if c.Skipped {
				check = "(" + check + ")"
			}
			line += " " + check + ","
		}
		all = append(all, strings.TrimRight(line, ":,"))
	}
	return all
}

func TestExplain(t *testing.T) {
	s := enforced(t)
	const cart, redis = "shop/cart-0", "redis/redis-0"
	tests := []struct {
		name           string
		src, dst, port string
		result         string
		flows          []string
		note           string // part of a note; empty: none is expected to be there
	}{
		{
			"from another cluster, by rule", "canada/shop/cart-0", redis, "6379", "Allowed",
			[]string{"Allowed 10.2.1.10 > 10.1.1.11 6379/TCP: ingress yes"},
			"egress of pod canada/shop/cart-0 is decided in cluster canada",
		},
		{
			"a name that stands for two numbers", "canada/shop/cart-0", redis, "redis", "Allowed",
			[]string{"Allowed 10.2.1.10 > 10.1.1.11 6379/TCP: ingress yes", "Allowed 10.2.1.10 > 10.1.1.11 6380/TCP: ingress yes"},
			"",
		},
		{
			"another port", "canada/shop/cart-0", redis, "6381", "Denied",
			[]string{"Denied 10.2.1.10 > 10.1.1.11 6381/TCP: ingress no"},
			"",
		},
		{
			"both sides here, the egress allowed", cart, redis, "6379/tcp", "Denied",
			[]string{"Denied 10.1.1.10 > 10.1.1.11 6379/TCP: source address yes, egress yes, ingress no"},
			"",
		},
		{
			"both sides here, and both are told of", cart, redis, "80", "Denied",
			[]string{"Denied 10.1.1.10 > 10.1.1.11 80/TCP: source address yes, egress no, (ingress no)"},
			"",
		},
		{
			"to another cluster, by scope mesh", cart, "canada/redis/redis-0", "6379", "Allowed",
			[]string{"Allowed 10.1.1.10 > 10.2.1.11 6379/TCP: source address yes, egress yes"},
			"ingress of pod canada/redis/redis-0 is decided in cluster canada, by the policies there: ask the agent of its node node-1",
		},
		{
			"both families, the other side on another node", cart, "shop/cart-1", "53/UDP", "Allowed",
			[]string{
				"Allowed 10.1.1.10 > 10.1.2.10 53/UDP: source address yes, egress yes",
				"Allowed fd00:1::10 > fd00:1::20 53/UDP: source address yes, egress yes",
			},
			"ingress of pod west/shop/cart-1 is decided on its node: overland explain shop/cart-0 shop/cart-1 53/UDP --node node-2",
		},
		{
			"an address of one family chooses", "fd00:1::10", "shop/cart-1", "53/UDP", "Allowed",
			[]string{"Allowed fd00:1::10 > fd00:1::20 53/UDP: source address yes, egress yes"},
			"",
		},
		{
			"the same pod (2.8)", cart, cart, "80", "Allowed",
			[]string{
				"Allowed 10.1.1.10 > 10.1.1.10 80/TCP: source address yes, same pod yes",
				"Allowed fd00:1::10 > fd00:1::10 80/TCP: source address yes, same pod yes",
			},
			"",
		},
		{
			"from the own node (2.8)", "node", redis, "80", "Allowed",
			[]string{"Allowed 10.1.0.4 > 10.1.1.11 80/TCP: own node yes"},
			"its pods with hostNetwork",
		},
		{
			"to the own node (2.8)", redis, "node:node-1", "icmp", "Allowed",
			[]string{"Allowed 10.1.1.11 > 10.1.0.4 0/ICMP: source address yes, own node yes"},
			"a NodePort of node west/node-1 leads to a pod",
		},
		{
			"from another node, by kind", "node:node-2", redis, "9/sctp", "Allowed",
			[]string{"Allowed 10.1.0.5 > 10.1.1.11 9/SCTP: ingress yes"},
			"a client behind a NodePort or load balancer",
		},
		{
			"from a node of another cluster", "node:canada/node-1", redis, "6379", "Denied",
			[]string{"Denied 10.2.0.4 > 10.1.1.11 6379/TCP: ingress no"},
			"",
		},
		{
			"from outside, by ipBlock", "10.9.0.1", redis, "7005/udp", "Allowed",
			[]string{"Allowed 10.9.0.1 > 10.1.1.11 7005/UDP: ingress yes"},
			"no endpoint of a linked cluster has 10.9.0.1",
		},
		{
			"from outside, excepted", "10.9.1.1", redis, "7005/udp", "Denied",
			[]string{"Denied 10.9.1.1 > 10.1.1.11 7005/UDP: ingress no"},
			"",
		},
		{
			"to what may be a Service (2.9)", cart, "10.101.0.10", "6379", "Denied",
			[]string{"Denied 10.1.1.10 > 10.101.0.10 6379/TCP: source address yes, egress no"},
			"if 10.101.0.10 is the address of a Service or a load balancer: egress is judged on the address that it is translated to",
		},
		{
			"an IPv4 address in IPv6 form", "::ffff:10.9.0.1", redis, "7005/udp", "Allowed",
			[]string{"Allowed 10.9.0.1 > 10.1.1.11 7005/UDP: ingress yes"},
			"",
		},
		{
			"an address of a pod here", "canada/shop/cart-0", "10.1.1.11", "redis", "Allowed",
			[]string{"Allowed 10.2.1.10 > 10.1.1.11 6379/TCP: ingress yes", "Allowed 10.2.1.10 > 10.1.1.11 6380/TCP: ingress yes"},
			"",
		},
		{
			"an interface without a known pod", "10.1.1.99", redis, "6379", "Denied",
			[]string{"Denied 10.1.1.99 > 10.1.1.11 6379/TCP: source address yes, unknown pod interface no, (ingress no)"},
			"",
		},
		{
			"a pod without an interface yet", "canada/shop/cart-0", "shop/waiting", "80", "Denied",
			[]string{"Denied 10.2.1.10 > 10.1.1.12 80/TCP: unknown pod interface no"},
			"no interface of its own is known yet",
		},
		{
			"neither side here", "shop/cart-1", "canada/redis/redis-0", "6379", "NotHere",
			[]string{"NotHere 10.1.2.10 > 10.2.1.11 6379/TCP"},
			"egress of pod west/shop/cart-1 is decided on its node: overland explain shop/cart-1 canada/redis/redis-0 6379 --node node-2",
		},
		{
			"a node to a pod elsewhere", "node", "shop/leaving", "80", "NotHere",
			[]string{"NotHere 10.1.0.4 > 10.1.2.11 80/TCP"},
			"is terminating",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dp := applied(s)
			x := decode[api.Explanation](t, s, dp, explainPath(tt.src, tt.dst, tt.port))
			if x.Result != tt.result {
				t.Errorf("%s, want %s", x.Result, tt.result)
			}
			if diff := cmp.Diff(tt.flows, summary(x)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !strings.Contains(strings.Join(x.Notes, "\n"), tt.note) {
				t.Errorf("notes %q, want %q", x.Notes, tt.note)
			}
			asked := 0
			for i := range x.Flows {
				if x.Flows[i].Kernel != nil {
					asked++
				}
			}
			if want := len(x.Flows); tt.result == api.ResultNotHere && asked != 0 || tt.result != api.ResultNotHere && asked != want || asked != len(dp.asked) {
				t.Errorf("the kernel was asked about %d of %d flows, and %d are told of", len(dp.asked), want, asked)
			}
		})
	}
}

func TestExplanationNamesWhatDecides(t *testing.T) {
	s := enforced(t)
	for name, path := range map[string]string{
		"explain-allowed.json": explainPath("canada/shop/cart-0", "redis/redis-0", "6379"),
		"explain-denied.json":  explainPath("shop/cart-0", "redis/redis-0", "80"),
		"explain-near.json":    explainPath("canada/shop/cart-0", "redis/redis-0", "80"),
	} {
		code, body := askWith(t, s, applied(s), path)
		if code != http.StatusOK {
			t.Fatalf("status %d: %s", code, body)
		}
		golden(t, name, indented(t, body))
	}
}

func TestExplainRefusesWhatItCannotTell(t *testing.T) {
	s := enforced(t)
	tests := []struct {
		src, dst, port string
		code, message  string
	}{
		{"cart-0", "redis/redis-0", "80", api.CodeInvalid, `source "cart-0": expected [CLUSTER/]NAMESPACE/POD`},
		{"a/b/c/d", "redis/redis-0", "80", api.CodeInvalid, "expected [CLUSTER/]NAMESPACE/POD"},
		{"10.0.0.0/8", "redis/redis-0", "80", api.CodeInvalid, "expected [CLUSTER/]NAMESPACE/POD"},
		{"redis/redis-0", "127.0.0.1", "80", api.CodeInvalid, "destination 127.0.0.1 is not an address between which packets are forwarded"},
		{"redis/redis-0", "fe80::1%eth0", "80", api.CodeInvalid, "is not an address between which"},
		{"redis/redis-0", "node:", "80", api.CodeInvalid, "expected [CLUSTER/]NAMESPACE/POD"},
		{"redis/redis-0", "node:node-9", "80", api.CodeNotFound, "node node-9 of cluster west is not known"},
		{"redis/redis-0", "redis/host-net", "80", api.CodeNotFound, "or uses its node's network (then name the node"},
		{"nada/redis/redis-0", "redis/redis-0", "80", api.CodeNotFound, `no cluster "nada" is linked`},
		{"canada/shop/thief", "redis/redis-0", "80", api.CodeNotFound, "10.1.0.4: LocalNodeAddress"},
		{"redis/redis-0", "fd00:1::20", "80", api.CodeInvalid, "have no address family in common"},
		{"node", "node", "80", api.CodeInvalid, "both are this node"},
		{"shop/cart-0", "redis/redis-0", "0", api.CodeInvalid, `port "0": expected PORT[/PROTOCOL]`},
		{"shop/cart-0", "redis/redis-0", "65536", api.CodeInvalid, "expected PORT[/PROTOCOL]"},
		{"shop/cart-0", "redis/redis-0", "80/http", api.CodeInvalid, "expected PORT[/PROTOCOL]"},
		{"shop/cart-0", "redis/redis-0", "/tcp", api.CodeInvalid, "expected PORT[/PROTOCOL]"},
		{"shop/cart-0", "redis/redis-0", "http", api.CodeNotFound, "one of its named ports: redis 6379/TCP, redis 6380/TCP"},
		{"shop/cart-0", "redis/redis-0", "redis/udp", api.CodeNotFound, "has no such port"},
		{"redis/redis-0", "shop/cart-0", "http", api.CodeNotFound, "named ports: none"},
		{"shop/cart-0", "10.9.0.1", "http", api.CodeInvalid, "which only a pod as destination has"},
	}
	for _, tt := range tests {
		t.Run(tt.src+" "+tt.dst+" "+tt.port, func(t *testing.T) {
			_, body := askWith(t, s, applied(s), explainPath(tt.src, tt.dst, tt.port))
			var e api.Error
			if err := json.Unmarshal(body, &e); err != nil || e.Code != tt.code || !strings.Contains(e.Message, tt.message) {
				t.Errorf("got %s, want %s …%s…", body, tt.code, tt.message)
			}
		})
	}
	starting := *s
	starting.Desired = nil
	if code, body := askWith(t, &starting, nil, explainPath("node", "redis/redis-0", "80")); code != http.StatusServiceUnavailable {
		t.Errorf("while starting: %d %s", code, body)
	}
	if code, body := askWith(t, s, nil, api.PathExplain+"?source=node&port=80"); code != http.StatusBadRequest || !strings.Contains(string(body), `\"destination\" is missing`) {
		t.Errorf("without destination: %d %s", code, body)
	}
}

func TestExplainTellsWhatTheKernelHolds(t *testing.T) {
	s := enforced(t)
	path := explainPath("canada/shop/cart-0", "redis/redis-0", "6379")
	differs := func(*desired.State, desired.Flow) (dataplane.Inspection, error) {
		return dataplane.Inspection{Sets: []dataplane.SetCheck{{Set: "ovl4-x", Element: "10.2.1.10", Want: true}}}, nil
	}
	kernel := func(dp Dataplane) *api.Kernel {
		t.Helper()
		return decode[api.Explanation](t, s, dp, path).Flows[0].Kernel
	}
	dp := applied(s)
	if k := kernel(dp); !k.Agrees || k.Pending || len(k.Chains) != 1 || len(k.Sets) != 1 {
		t.Errorf("agrees: %+v", k)
	}
	dp.found = differs
	if k := kernel(dp); k.Agrees || k.Pending || k.Error != "" || k.Sets[0].Kernel || len(dp.asked) != 2 {
		t.Errorf("differs: %+v after %d questions", k, len(dp.asked))
	}
	dp = behind(s)
	dp.found = differs
	if k := kernel(dp); k.Agrees || !k.Pending || k.PendingSince == nil || len(dp.asked) != 2 {
		t.Errorf("a change is on its way: %+v after %d questions", k, len(dp.asked))
	}
	dp = applied(s)
	dp.found = func(*desired.State, desired.Flow) (dataplane.Inspection, error) {
		return dataplane.Inspection{Agrees: true}, errors.New("no lock")
	}
	if k := kernel(dp); k.Agrees || k.Error != "no lock" {
		t.Errorf("cannot be read: %+v", k)
	}
	if k := kernel(nil); k.Agrees || k.Error != "nothing enforces policies on this node" {
		t.Errorf("no dataplane: %+v", k)
	}
}

func TestExplanationIsPartialIfAnInvolvedClusterIs(t *testing.T) {
	s := enforced(t)
	for i := range s.Clusters {
		if s.Clusters[i].Name == "canada" {
			s.Clusters[i].Status.State = model.StateOutOfContact
		}
	}
	for _, tt := range []struct {
		src, dst string
		partial  bool
	}{
		{"canada/shop/cart-0", "redis/redis-0", true},
		{"shop/cart-0", "redis/redis-0", false},
		{"10.9.0.1", "redis/redis-0", true}, // it may be canada's, by now
	} {
		x := decode[api.Explanation](t, s, applied(s), explainPath(tt.src, tt.dst, "6379"))
		if x.Partial != tt.partial {
			t.Errorf("%s to %s: partial is %v", tt.src, tt.dst, x.Partial)
		}
	}
}

func FuzzExplainNeverPanics(f *testing.F) {
	for _, seed := range [][3]string{
		{"shop/cart-0", "redis/redis-0", "6379"}, {"node", "10.9.0.1", "icmp"}, {"node:canada/node-1", "::1", "redis/tcp"}, {"", "/", "/"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	s := enforced(f)
	f.Fuzz(func(t *testing.T, source, destination, port string) {
		if code, body := askWith(t, s, applied(s), explainPath(source, destination, port)); code == http.StatusInternalServerError || !json.Valid(body) {
			t.Errorf("%d %s", code, body)
		}
	})
}
