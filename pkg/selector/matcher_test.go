package selector

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overland-net/overland/pkg/model"
)

func TestMissingLabel_4_3(t *testing.T) {
	for expr, want := range map[string]bool{
		`k == 'v'`: false, `k in {'v'}`: false, `k contains 'v'`: false, `k contains ''`: false,
		`k starts with 'v'`: false, `k ends with 'v'`: false, `has(k)`: false,
		`k != 'v'`: true, `k not in {'v', 'w'}`: true, `!k contains 'v'`: true, `!has(k)`: true,
	} {
		if got := mustParse(t, expr).Compile().Matches(labelMap{}); got != want {
			t.Errorf("%s without the label is %v", expr, got)
		}
	}
}

func TestCovers(t *testing.T) {
	v := func(k, v string) Term { return Term{Key: k, Value: v} }
	has := func(k string) Term { return Term{Key: k, AnyValue: true} }
	for _, c := range []struct {
		expr   string
		covers [][]Term
	}{
		{`all()`, nil},
		{`!all()`, nil},
		{`a != 'x'`, nil},
		{`!has(a)`, nil},
		{`!a contains 'x'`, nil},
		{`a == 'x'`, [][]Term{{v("a", "x")}}},
		{`a in {'y', 'x'}`, [][]Term{{v("a", "x"), v("a", "y")}}},
		{`has(a)`, [][]Term{{has("a")}}},
		{`a contains 'x' || b starts with 'y' || c ends with 'z'`, [][]Term{{has("a"), has("b"), has("c")}}},
		{`has(a) && b in {'x', 'y'} && c == 'z' && d != 'w'`, [][]Term{{v("c", "z")}, {v("b", "x"), v("b", "y")}, {has("a")}}},
		{`has(a) && a != 'x'`, [][]Term{{has("a")}}},
		{`a == 'x' || b == 'y'`, [][]Term{{v("a", "x"), v("b", "y")}}},
		{`a == 'x' || b != 'y'`, nil},
		{`a == 'x' && has(c) || a == 'x' && has(d)`, [][]Term{{v("a", "x")}}},
		{`a == 'x' && has(b) || has(a) && a != 'y'`, [][]Term{{has("a")}}},
		{`(a == 'x' || b == 'y') && has(c)`, [][]Term{{v("a", "x"), v("b", "y")}, {has("c")}}},
	} {
		if diff := cmp.Diff(c.covers, mustParse(t, c.expr).Compile().Covers()); diff != "" {
			t.Errorf("%s: %s", c.expr, diff)
		}
	}
}

func TestKeys(t *testing.T) {
	m := mustParse(t, `b == 'x' && (has(a) || !c contains 'y' && b != 'z')`).Compile()
	if !slices.Equal(m.Keys(), []string{"a", "b", "c"}) || !m.Mentions("c") || m.Mentions("d") {
		t.Error(m.Keys())
	}
	if m.Selector().String() != `b == "x" && (has(a) || !c contains "y")` && m.Selector() != m.Selector().Compile().Selector() {
		t.Error(m.Selector())
	}
}

func podSubject() *Subject {
	return &Subject{
		Labels: model.NewLabels(map[string]string{
			"app": "cart", "empty": "", "kubernetes.io/metadata.name": "own",
			"overland.dev/cluster": "forged", "overland.dev/other": "forged", "x.overland.dev/y": "forged",
			"namespace.overland.dev/forged": "forged", "federation.tigera.io/remoteClusterName": "forged",
		}),
		Namespace: model.NewLabels(map[string]string{
			"env": "prod", "example.com/env": "test", "kubernetes.io/metadata.name": "forged", "overland.dev/x": "forged",
		}),
		Cluster:     model.NewLabels(map[string]string{"region": "north"}),
		ClusterName: "canada", NamespaceName: "redis", ServiceAccount: "default", Kind: model.KindPod,
	}
}

func TestSubject_1_4_2_2(t *testing.T) {
	type answers map[string]string // absent if not there
	node := &Subject{
		Labels:  model.NewLabels(map[string]string{"app": "node"}),
		Cluster: model.NewLabels(map[string]string{"region": "north"}), ClusterName: "canada", Kind: model.KindNode,
		Namespace: model.NewLabels(map[string]string{"env": "prod"}), NamespaceName: "redis", ServiceAccount: "default",
	}
	unknown := podSubject()
	unknown.Namespace, unknown.NamespaceUnknown = model.Labels{}, true
	for _, c := range []struct {
		name    string
		subject *Subject
		has     answers
		lacks   []string
	}{
		{
			"a pod", podSubject(),
			answers{
				"app": "cart", "empty": "", "kubernetes.io/metadata.name": "own",
				"overland.dev/cluster": "canada", "overland.dev/kind": "Pod", "overland.dev/namespace": "redis",
				"overland.dev/service-account": "default", "cluster.overland.dev/region": "north",
				"namespace.overland.dev/env": "prod", "namespace.overland.dev/example.com/env": "test",
				"namespace.overland.dev/kubernetes.io/metadata.name": "redis",
			},
			[]string{
				"", "none", "overland.dev/other", "x.overland.dev/y", "namespace.overland.dev/forged", "namespace.overland.dev/",
				"cluster.overland.dev/", "cluster.overland.dev/none", "namespace.overland.dev/overland.dev/x",
				"federation.tigera.io/remoteClusterName", "federation.www.tigera.io/remoteClusterName",
			},
		},
		{
			"a node has no namespace and no service account", node,
			answers{"app": "node", "overland.dev/kind": "Node", "overland.dev/cluster": "canada", "cluster.overland.dev/region": "north"},
			[]string{"overland.dev/namespace", "namespace.overland.dev/env", "namespace.overland.dev/kubernetes.io/metadata.name", "overland.dev/service-account"},
		},
		{
			"a pod of a namespace that is not known", unknown,
			answers{"overland.dev/namespace": "redis"},
			[]string{"namespace.overland.dev/env", "namespace.overland.dev/kubernetes.io/metadata.name"},
		},
		{"nothing", &Subject{}, nil, []string{"overland.dev/cluster", "overland.dev/kind", "overland.dev/namespace", "overland.dev/service-account"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for k, want := range c.has {
				if got, found := c.subject.Get(k); !found || got != want {
					t.Errorf("%s is %q, %v, expected %q", k, got, found, want)
				}
			}
			for _, k := range c.lacks {
				if got, found := c.subject.Get(k); found {
					t.Errorf("%s is %q, expected none", k, got)
				}
			}
		})
	}
}

func TestMatchesDoesNotAllocate(t *testing.T) {
	s := podSubject()
	m := mustParse(t, benchExpression).Compile()
	if !m.Matches(s) {
		t.Fatal("it does not match")
	}
	if n := testing.AllocsPerRun(100, func() { m.Matches(s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

const benchExpression = `overland.dev/kind == 'Pod' && overland.dev/cluster in {'canada', 'west'} && app != 'db' && (namespace.overland.dev/env == 'prod' || has(none)) && !app starts with 'x'`

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(benchExpression); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	s := mustParse(b, benchExpression)
	b.ReportAllocs()
	for b.Loop() {
		s.Compile()
	}
}

func BenchmarkMatches(b *testing.B) {
	m, s := mustParse(b, benchExpression).Compile(), podSubject()
	b.ReportAllocs()
	for b.Loop() {
		m.Matches(s)
	}
}

func BenchmarkFromLabelSelector(b *testing.B) {
	s := model.LabelSelector{
		{Key: "overland.dev/kind", Operator: model.In, Values: []string{"Pod"}},
		{Key: "overland.dev/namespace", Operator: model.In, Values: []string{"redis"}},
		{Key: "overland.dev/cluster", Operator: model.In, Values: []string{"west"}},
		{Key: "app", Operator: model.In, Values: []string{"cart", "web"}},
	}
	b.ReportAllocs()
	for b.Loop() {
		FromLabelSelector(s, nil)
	}
}
