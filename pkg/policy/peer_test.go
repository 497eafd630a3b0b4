package policy

import (
	"strings"
	"testing"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// sel is a label selector in few words: "k=v", "k in v,w", "k notin v,w", "k",
// "!k", separated by "; ".
func sel(text string) *model.LabelSelector {
	s := model.LabelSelector{}
	for _, part := range strings.Split(text, "; ") {
		if part == "" {
			continue
		}
		words := strings.SplitN(part, " ", 3)
		r := model.Requirement{Key: words[0], Operator: model.Exists}
		switch {
		case len(words) == 3 && words[1] == "in":
			r.Operator, r.Values = model.In, strings.Split(words[2], ",")
		case len(words) == 3 && words[1] == "notin":
			r.Operator, r.Values = model.NotIn, strings.Split(words[2], ",")
		case strings.HasPrefix(part, "!"):
			r.Key, r.Operator = part[1:], model.DoesNotExist
		case strings.Contains(part, "="):
			k, v, _ := strings.Cut(part, "=")
			r = model.Requirement{Key: k, Operator: model.In, Values: []string{v}}
		}
		s = append(s, r)
	}
	return &s
}

func west() Config {
	return Config{Cluster: "west", ClusterLabels: model.NewLabels(map[string]string{"region": "us"})}
}

// policyIn is a policy named p that isolates ingress and allows the peers.
func policyIn(namespace, pods string, peers ...model.PolicyPeer) *model.Policy {
	return &model.Policy{
		Key: model.PolicyKey("west", namespace, "p"), Pods: *sel(pods), Ingress: true,
		IngressRules: []model.PolicyRule{{Peers: peers, AnyPort: true}},
	}
}

const (
	pod   = `overland.dev/kind == "Pod"`
	local = `overland.dev/cluster == "west"`
	nsKey = "overland.dev/namespace"
)

// and joins operands in the canonical order that Parse gives them.
func and(t *testing.T, operands ...string) string {
	t.Helper()
	s, err := selector.Parse(strings.Join(operands, " && "))
	if err != nil {
		t.Fatal(err)
	}
	return s.String()
}

// TestPeers is the table of what a peer means. The numbers in parentheses are of
// the list of corner cases that engines get wrong, the others of the semantics.
func TestPeers(t *testing.T) {
	const never = `!all()`
	for _, c := range []struct {
		name             string
		pods, namespaces *model.LabelSelector
		want             []string
		problems         []string
	}{
		{"(1) podSelector only: own namespace, local cluster 2.3 2.4", sel("app=cart"), nil, []string{pod, local, nsKey + ` == "shop"`, `app == "cart"`}, nil},
		{"(1) empty podSelector: all pods of the own namespace", sel(""), nil, []string{pod, local, nsKey + ` == "shop"`}, nil},
		{"(1) empty namespaceSelector: every namespace, also without known labels", nil, sel(""), []string{pod, local}, nil},
		{"(1) both empty: every pod of every namespace", sel(""), sel(""), []string{pod, local}, nil},
		{"(2) both in one peer: AND", sel("app=cart"), sel("env=prod"), []string{pod, local, `app == "cart"`, `namespace.overland.dev/env == "prod"`}, nil},
		{"(22) NotIn of several values, and those without the key", sel("app notin cart,web"), nil, []string{pod, local, nsKey + ` == "shop"`, `app not in {"cart", "web"}`}, nil},
		{"(22) DoesNotExist", sel("!app"), nil, []string{pod, local, nsKey + ` == "shop"`, `!has(app)`}, nil},
		{"(23) a negation-only namespaceSelector: pods, of known namespaces, of the local cluster", nil, sel("env notin prod; !old"), []string{pod, local, `namespace.overland.dev/env != "prod"`, `!has(namespace.overland.dev/old)`, `has(namespace.overland.dev/kubernetes.io/metadata.name)`}, nil},
		{"(24) kubernetes.io/metadata.name is the namespace's name", nil, sel("kubernetes.io/metadata.name in shop,redis"), []string{pod, local, nsKey + ` in {"redis", "shop"}`}, nil},
		{"(24) not that name needs no Namespace object", nil, sel("kubernetes.io/metadata.name notin shop"), []string{pod, local, nsKey + ` != "shop"`}, nil},
		{"(46) several requirements: AND", sel("app=cart; tier; app notin web"), nil, []string{pod, local, nsKey + ` == "shop"`, `app == "cart"`, `has(tier)`}, nil},
		{"kubernetes.io/metadata.name of a pod is a label", sel("kubernetes.io/metadata.name=x"), nil, []string{pod, local, nsKey + ` == "shop"`, `kubernetes.io/metadata.name == "x"`}, nil},
		{"a namespace's label with a domain", nil, sel("example.com/env=prod"), []string{pod, local, `namespace.overland.dev/example.com/env == "prod"`}, nil},

		{"2.3 one other cluster", sel("app=cart; overland.dev/cluster=canada"), nil, []string{pod, `overland.dev/cluster == "canada"`, nsKey + ` == "shop"`, `app == "cart"`}, nil},
		{"2.3 any cluster", sel("overland.dev/cluster"), nil, []string{pod, `has(overland.dev/cluster)`, nsKey + ` == "shop"`}, nil},
		{"2.3 all clusters but one", sel("overland.dev/cluster notin canada"), nil, []string{pod, `overland.dev/cluster != "canada"`, nsKey + ` == "shop"`}, nil},
		{"2.2 a cluster key in the namespaceSelector", nil, sel("overland.dev/cluster=canada; env=prod"), []string{pod, `overland.dev/cluster == "canada"`, `namespace.overland.dev/env == "prod"`}, nil},
		{"2.3 a cluster key beside any namespace", sel(""), sel("overland.dev/cluster in canada,west"), []string{pod, `overland.dev/cluster in {"canada", "west"}`}, nil},
		{"2.2 a label of the cluster", sel("cluster.overland.dev/region=eu"), nil, []string{pod, `cluster.overland.dev/region == "eu"`, nsKey + ` == "shop"`}, nil},
		{"2.2 no such label of the cluster", nil, sel("!cluster.overland.dev/region"), []string{pod, `!has(cluster.overland.dev/region)`}, nil},
		{"2.2 service account", sel("overland.dev/service-account=sa"), nil, []string{pod, local, nsKey + ` == "shop"`, `overland.dev/service-account == "sa"`}, nil},
		{"2.2 kind Pod is what it is anyway", sel("overland.dev/kind=Pod"), nil, []string{pod, local, nsKey + ` == "shop"`}, nil},
		{"2.6 kind not Node is Pod", sel("overland.dev/kind notin Node"), nil, []string{pod, local, nsKey + ` == "shop"`}, nil},

		{"2.2 an unknown key", sel("overland.dev/colour=red"), nil, []string{never}, []string{`podSelector: the reserved key "overland.dev/colour" matches nothing here: expected overland.dev/kind, overland.dev/service-account, overland.dev/cluster or cluster.overland.dev/KEY`}},
		{"2.2 an unknown key, NotIn", sel("overland.dev/colour notin red"), nil, []string{never}, []string{`podSelector: the reserved key "overland.dev/colour"`}},
		{"2.2 an unknown key, DoesNotExist", nil, sel("!x.overland.dev/colour"), []string{never}, []string{`namespaceSelector: the reserved key "x.overland.dev/colour" matches nothing here: expected overland.dev/cluster or cluster.overland.dev/KEY`}},
		{"2.2 our own keys of namespaces are no one else's", sel("overland.dev/namespace=x; namespace.overland.dev/env=y"), nil, []string{never}, []string{`podSelector: the reserved key "overland.dev/namespace"`, `podSelector: the reserved key "namespace.overland.dev/env"`}},
		{"2.2 service account of a namespace", nil, sel("!overland.dev/service-account"), []string{never}, []string{`namespaceSelector: the reserved key "overland.dev/service-account"`}},
		{"2.2 kind of a namespace", sel(""), sel("overland.dev/kind=Pod"), []string{never}, []string{`namespaceSelector: the reserved key "overland.dev/kind"`}},
		{"1.4 a label that is dropped everywhere", sel("federation.tigera.io/remoteClusterName notin evil"), nil, []string{never}, []string{`podSelector: the reserved key "federation.tigera.io/remoteClusterName"`}},
		{"1.2 labels of clusters have no slash", sel("cluster.overland.dev/a/b=c"), nil, []string{never}, []string{`podSelector: the reserved key "cluster.overland.dev/a/b"`}},
		{"2.2 the cluster is always there", sel("!overland.dev/cluster"), nil, []string{never}, []string{`podSelector: "overland.dev/cluster" is on everything`}},
		{"1.4 the namespace's name too", nil, sel("!kubernetes.io/metadata.name"), []string{never}, []string{`namespaceSelector: "kubernetes.io/metadata.name" is on everything`}},

		{"2.6 nodes", sel("overland.dev/kind=Node; pool=x"), nil, []string{`overland.dev/kind == "Node"`, local, `pool == "x"`}, nil},
		{"2.6 nodes of another cluster", sel("overland.dev/kind=Node; overland.dev/cluster=canada"), nil, []string{`overland.dev/kind == "Node"`, `overland.dev/cluster == "canada"`}, nil},
		{"2.6 exactly Node, with more about the kind", sel("overland.dev/kind in Node,Node; overland.dev/kind; overland.dev/kind notin Pod"), nil, []string{`overland.dev/kind == "Node"`, local}, nil},
		{"2.6 nodes beside a namespaceSelector", sel("overland.dev/kind=Node"), sel(""), []string{never}, []string{"namespaceSelector: nodes have no namespace: expected none beside overland.dev/kind: Node"}},
		{"2.6 nodes have no service account", sel("overland.dev/kind=Node; !overland.dev/service-account"), nil, []string{never}, []string{`podSelector: the reserved key "overland.dev/service-account" matches nothing here: expected overland.dev/kind, overland.dev/cluster or`}},
		{"2.6 Pod or Node means pods", sel("overland.dev/kind in Pod,Node"), nil, []string{pod, local, nsKey + ` == "shop"`}, []string{"podSelector: overland.dev/kind: nodes would fulfil this, but it means pods only"}},
		{"2.6 any kind means pods", sel("overland.dev/kind"), nil, []string{pod, local, nsKey + ` == "shop"`}, []string{"podSelector: overland.dev/kind: nodes would fulfil this"}},
		{"2.6 not Pod means pods, of which there is none", sel("overland.dev/kind notin Pod"), nil, []string{never}, []string{"podSelector: overland.dev/kind: nodes would fulfil this"}},
		{"2.6 Node and Pod at once", sel("overland.dev/kind=Node; overland.dev/kind=Pod"), nil, []string{never}, []string{"matches nothing: expected requirements that can all be fulfilled at once"}},
		{"another kind", sel("overland.dev/kind=VM"), nil, []string{never}, []string{"matches nothing: expected requirements"}},

		{"2.12 impossible", sel("app=cart; app=web"), nil, []string{never}, []string{"matches nothing: expected requirements that can all be fulfilled at once"}},
		{"2.12 impossible: unlike an empty peer", nil, nil, []string{never}, []string{"the peer is empty: expected podSelector, namespaceSelector or ipBlock"}},
		{"2.12 an operator that is none", &model.LabelSelector{{Key: "a"}}, nil, []string{never}, []string{`podSelector: the requirement on "a" matches nothing: expected operator In or NotIn with values, Exists or DoesNotExist`}},
		{"2.12 NotIn of nothing", &model.LabelSelector{{Key: "a", Operator: model.NotIn}}, nil, []string{never}, []string{`podSelector: the requirement on "a" matches nothing`}},
		{"2.12 a key that is none is not printed as it is", sel("overland.dev/\n\x1b=x"), nil, []string{never}, []string{`podSelector: the reserved key "overland.dev/\n\x1b"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			peer := model.PolicyPeer{Pods: c.pods, Namespaces: c.namespaces}
			p := policyIn("shop", "", peer)
			ns := &model.Namespace{Key: model.NamespaceKey("west", "shop")}
			const field = "spec.ingress[0].from[1]"
			got, ok, problems := west().Peer(p, ns, peer, field)
			if want := and(t, c.want...); !ok || got.String() != want {
				t.Errorf("it is %s, expected %s", got, want)
			}
			checkProblems(t, problems, p.Key, field, c.problems)

			// In the scope mesh only the restriction to the local cluster is not there.
			mesh := west()
			mesh.Mesh = true
			if wide, _, _ := mesh.Peer(p, ns, peer, field); selector.And(wide, selector.Eq(model.KeyCluster, "west")) != got && wide != got {
				t.Errorf("in scope mesh it is %s", wide)
			}
		})
	}
}

// checkProblems compares the messages by their beginnings, which follow field.
func checkProblems(t *testing.T, got []model.Problem, object model.Key, field string, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("problems %v, expected %q", got, want)
	}
	for i, p := range got {
		rest, found := strings.CutPrefix(p.Message, field)
		if !found || !strings.HasPrefix(strings.TrimLeft(rest, ".: "), want[i]) || p.Kind != model.ProblemPolicy || p.Object != object {
			t.Errorf("problem %v, expected %s, %s", p, field, want[i])
		}
	}
}

func TestAnIPBlockHasNoSelector_2_7(t *testing.T) {
	peer := model.PolicyPeer{Block: prefix("10.0.0.0/8")}
	if s, ok, problems := west().Peer(policyIn("shop", ""), nil, peer, "f"); ok || problems != nil {
		t.Error(s, ok, problems)
	}
}

// TestScope_2_3 is the default, the annotations of namespace and policy, and
// what the override makes of them.
func TestScope_2_3(t *testing.T) {
	const absent = "-" // no such Namespace
	for _, c := range []struct {
		mesh              bool
		override          Override
		namespace, policy string
		want              bool
		problems          int
	}{
		{false, OverridePolicy, "", "", false, 0},
		{true, OverridePolicy, "", "", true, 0},
		{false, OverridePolicy, "mesh", "", true, 0},
		{false, OverridePolicy, "", "mesh", true, 0},
		{true, OverridePolicy, "local", "", false, 0},
		{true, OverridePolicy, "", "local", false, 0},
		{false, OverridePolicy, "mesh", "local", false, 0},
		{true, OverridePolicy, "local", "mesh", true, 0},

		{false, OverrideNamespace, "mesh", "", true, 0},
		{false, OverrideNamespace, "", "mesh", false, 1},
		{false, OverrideNamespace, "mesh", "mesh", true, 0}, // widens nothing
		{false, OverrideNamespace, "mesh", "local", false, 0},
		{true, OverrideNamespace, "local", "mesh", false, 1},
		{true, OverrideNamespace, "", "mesh", true, 0},

		{false, OverrideNone, "mesh", "", false, 1},
		{false, OverrideNone, "mesh", "mesh", false, 2},
		{true, OverrideNone, "mesh", "mesh", true, 0},
		{true, OverrideNone, "local", "", false, 0},
		{true, OverrideNone, "", "local", false, 0},
		{true, OverrideNone, "local", "mesh", false, 1},

		{true, OverridePolicy, "Mesh", "", false, 1},
		{true, OverridePolicy, "", "global", false, 1},
		{true, OverridePolicy, "x", "y", false, 2},
		{false, OverridePolicy, "x", "mesh", true, 1}, // x means local, which the policy may widen

		{true, OverridePolicy, absent, "", false, 0}, // it might say local
		{true, OverridePolicy, absent, "mesh", true, 0},
		{true, OverrideNone, absent, "mesh", false, 1},
	} {
		cfg := Config{Cluster: "west", Mesh: c.mesh, ScopeOverride: c.override}
		p := &model.Policy{Key: model.PolicyKey("west", "shop", "p"), PeerScope: c.policy}
		ns := &model.Namespace{Key: model.NamespaceKey("west", "shop"), PeerScope: c.namespace}
		if c.namespace == absent {
			ns = nil
		}
		mesh, problems := cfg.MeshScope(p, ns)
		if mesh != c.want || len(problems) != c.problems {
			t.Errorf("default mesh %v, override %s, namespace %q, policy %q: mesh %v, problems %v", c.mesh, c.override, c.namespace, c.policy, mesh, problems)
		}
		for _, pr := range problems {
			if pr.Kind != model.ProblemPeerScope || pr.Object.Cluster != "west" || !strings.HasPrefix(pr.Message, "metadata.annotations[overland.dev/peer-scope]: ") {
				t.Errorf("problem %v", pr)
			}
		}
	}
}

func TestParseOverride(t *testing.T) {
	for _, o := range []Override{OverridePolicy, OverrideNamespace, OverrideNone} {
		if got, err := ParseOverride(o.String()); err != nil || got != o {
			t.Error(o, got, err)
		}
	}
	if o, err := ParseOverride("Policy"); err == nil || o != OverrideNone {
		t.Error(o, err)
	}
}

// TestSubjects_2_5 is spec.podSelector, with its reserved keys, on local pods.
func TestSubjects_2_5(t *testing.T) {
	for _, c := range []struct {
		name, pods string
		selects    bool // a pod app=cart with service account sa
		problems   []string
	}{
		{"(1) empty: all pods of the namespace", "", true, nil},
		{"a label", "app=cart", true, nil},
		{"(46) AND", "app=cart; tier", false, nil},
		{"(22) NotIn", "app notin web,db; tier notin x", true, nil},
		{"this cluster", "overland.dev/cluster=west", true, nil},
		{"another cluster: one manifest for all", "overland.dev/cluster=canada", false, nil},
		{"not another cluster", "overland.dev/cluster notin canada", true, nil},
		{"a label of this cluster", "cluster.overland.dev/region=us", true, nil},
		{"a label of another cluster", "cluster.overland.dev/region=eu", false, nil},
		{"the service account", "overland.dev/service-account=sa", true, nil},
		{"another service account", "overland.dev/service-account=default", false, nil},
		{"kind Pod", "overland.dev/kind=Pod", true, nil},
		{"kind exists", "overland.dev/kind", true, nil},
		{"kind Pod or Node", "overland.dev/kind in Pod,Node", true, nil},
		{"kind Node selects nothing", "overland.dev/kind=Node", false, []string{"matches nothing"}},
		{"not kind Pod selects nothing", "overland.dev/kind notin Pod", false, []string{"matches nothing"}},
		{"no cluster selects nothing", "!overland.dev/cluster", false, []string{`"overland.dev/cluster" is on everything`}},
		{"an unknown key selects nothing", "!overland.dev/colour", false, []string{`the reserved key "overland.dev/colour" matches nothing here`}},
		{"impossible", "app=cart; app=web", false, []string{"matches nothing"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := policyIn("shop", c.pods)
			_, problems := west().Subjects(p)
			checkProblems(t, problems, p.Key, "spec.podSelector", c.problems)
			s := NewSet(west(), "node-1")
			s.Apply(model.Set(p))
			s.Apply(model.Set(podOn("node-1", "shop", "cart-0", "app=cart")))
			if got := s.Len() == 1; got != c.selects {
				t.Errorf("it selects the pod: %v", got)
			}
			checkProblems(t, s.Problems(), p.Key, "spec.podSelector", c.problems)
		})
	}
}
