package selector

import (
	"testing"

	"github.com/overland-net/overland/pkg/model"
)

// TestOneMeaningOneSelector lists spellings of one meaning; the first is canonical.
func TestOneMeaningOneSelector(t *testing.T) {
	for _, spellings := range [][]string{
		{`a == "x" && has(b)`, `has(b) && a == 'x'`, `(has(b)) && (a in {"x"})`, `has(b) && (a == 'x' && has(b))`, `!(!has(b) || a != 'x')`},
		{`has(a) || has(b) || has(c)`, `has(c) || (has(b) || has(a))`, `(has(a) || has(b)) || (has(c) || has(b))`},
		{`a == "x"`, `a == 'x' && has(a)`, `a in {'x', 'y'} && a in {'x', 'z'}`, `a in {'x', 'y'} && a != 'y'`, `a == 'x' && a contains 'x'`, `a == 'x' && !a contains 'y'`, `a == 'x' || a == 'x' && has(b)`, `a == 'x' && (a == 'x' || has(b))`},
		{`a in {"x", "y"}`, `a == 'x' || a == 'y'`, `!(a != 'x' && a != 'y')`, `a in {'y', 'x', 'y'}`},
		{`a not in {"x", "y"}`, `a != 'x' && a != 'y'`, `!(a == 'y' || a == 'x')`, `a not in {'x'} && a not in {'y', 'x'}`},
		{`has(a) && a != "x"`, `a != 'x' && has(a)`, `!(!has(a) || a == 'x')`},
		{`has(a)`, `has(a) || a == 'x'`, `has(a) && has(a)`, `has(a) || a contains 'x'`, `has(a) && all()`, `has(a) || !all()`, `has(a) && (a != 'x' || has(a))`},
		{`!has(a)`, `!has(a) && a != 'x'`, `!has(a) && !a contains 'x'`, `!(has(a) || a == 'x')`},
		{`a starts with "x"`, `a starts with 'x' && has(a)`, `a starts with 'x' && a != 'y'`, `!(!a starts with 'x')`},
		{`!all()`, `a == 'x' && a == 'y'`, `has(a) && !has(a)`, `a == 'x' && a != 'x'`, `a in {'x', 'y'} && a in {'z'}`, `a == 'x' && !has(a)`, `a contains 'x' && !has(a)`, `a contains 'x' && !a contains 'x'`, `a == 'x' && a contains 'y'`, `a in {'x', 'y'} && a not in {'y', 'x'}`, `has(b) && a in {}`, `!(a == 'x' || a != 'x')`, `!global()`},
		{`all()`, `a == 'x' || a != 'x'`, `has(a) || !has(a)`, `has(a) || a != 'x'`, `a != 'x' || a != 'y'`, `a contains 'x' || !a contains 'x'`, `has(b) || all()`, `a not in {}`, ``},
	} {
		want, err := Parse(spellings[0])
		if err != nil {
			t.Fatal(err)
		}
		if want.String() != spellings[0] {
			t.Errorf("%s is not canonical: it becomes %s", spellings[0], want)
		}
		for _, other := range spellings[1:] {
			if got, err := Parse(other); err != nil || got != want {
				t.Errorf("%s becomes %s (%v), expected %s", other, got, err, want)
			}
		}
	}
}

func TestConstructorsAgreeWithTheGrammar(t *testing.T) {
	for _, c := range []struct {
		made Selector
		text string
	}{
		{All(), `all()`},
		{Selector{}, `all()`},
		{Never(), `!all()`},
		{Eq("k", "v"), `k == 'v'`},
		{Has("k"), `has(k)`},
		{In("k", "b", "a", "b"), `k in {'a', 'b'}`},
		{In("k"), `!all()`},
		{NotIn("k", "b", "a"), `k not in {'a', 'b'}`},
		{NotIn("k"), `all()`},
		{And(), `all()`},
		{Or(), `!all()`},
		{And(Eq("a", "b"), Has("c"), All()), `a == 'b' && has(c)`},
		{Or(Eq("a", "b"), Has("c"), Never()), `a == 'b' || has(c)`},
		{Not(And(Eq("a", "b"), Or(Has("c"), Has("d")))), `a != 'b' || !has(c) && !has(d)`},
		{Not(Not(Eq("a", "b"))), `a == 'b'`},
		{Not(All()), `!all()`},
	} {
		if want, err := Parse(c.text); err != nil || c.made != want {
			t.Errorf("made %s, but %s becomes %s (%v)", c.made, c.text, want, err)
		}
	}
}

// A value with both kinds of quote cannot be written. No API server lets one
// pass, but whatever comes must be safe: nothing matches, least of all NotIn.
func TestWhatCannotBeWrittenNeverMatches(t *testing.T) {
	const both = `'"`
	for name, s := range map[string]Selector{
		"Eq value":             Eq("k", both),
		"Eq key":               Eq("k k", "v"),
		"Eq empty key":         Eq("", "v"),
		"Has key":              Has("ключ"),
		"NotIn value":          NotIn("k", "v", both),
		"NotIn key":            NotIn("k=", "v"),
		"label In":             FromLabelSelector(model.LabelSelector{{Key: "k", Operator: model.In, Values: []string{both}}}, nil),
		"label NotIn":          FromLabelSelector(model.LabelSelector{{Key: "k", Operator: model.NotIn, Values: []string{both}}}, nil),
		"label Exists":         FromLabelSelector(model.LabelSelector{{Key: "k\n", Operator: model.Exists}}, nil),
		"label DoesNotExist":   FromLabelSelector(model.LabelSelector{{Key: "k\n", Operator: model.DoesNotExist}}, nil),
		"In without values":    FromLabelSelector(model.LabelSelector{{Key: "k", Operator: model.In}}, nil),
		"NotIn without values": FromLabelSelector(model.LabelSelector{{Key: "k", Operator: model.NotIn}}, nil),
		"unknown operator":     FromLabelSelector(model.LabelSelector{{Key: "k"}}, nil),
		"beside others":        FromLabelSelector(model.LabelSelector{{Key: "a", Operator: model.Exists}, {Key: "k", Operator: 77}}, nil),
	} {
		if s != Never() || !s.Compile().Impossible() {
			t.Errorf("%s: %s", name, s)
		}
	}
	if s := In("k", "v", both); s != Eq("k", "v") {
		t.Errorf("In with a value that no label has: %s", s)
	}
}

func TestFromLabelSelectorMapsKeys(t *testing.T) {
	s := FromLabelSelector(model.LabelSelector{
		{Key: "env", Operator: model.In, Values: []string{"prod", "dev"}},
		{Key: "team", Operator: model.DoesNotExist},
		{Key: "env", Operator: model.NotIn, Values: []string{"dev"}},
	}, func(key string) string { return model.PrefixNamespace + key })
	if s.String() != `namespace.overland.dev/env == "prod" && !has(namespace.overland.dev/team)` {
		t.Error(s)
	}
}

// Larger selectors than Parse reads work too: a label selector may be as large
// as an object.
func TestLargeLabelSelector(t *testing.T) {
	var values []string
	for i := range 5000 {
		values = append(values, string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676))+"-0123456789")
	}
	s := FromLabelSelector(model.LabelSelector{{Key: "k", Operator: model.In, Values: values}}, nil)
	if len(s.String()) <= MaxLength {
		t.Fatal("not large")
	}
	m := And(s, Has("b")).Compile()
	if !m.Matches(labelMap{"k": values[4711], "b": ""}) || m.Matches(labelMap{"k": "zzzz", "b": ""}) {
		t.Error("it does not match as it should")
	}
	if Not(Not(s)) != s {
		t.Error("its double negation differs")
	}
}

// What an expression costs follows its length, not its square.
func TestMergingIsBounded(t *testing.T) {
	var kids []node
	var values []string
	for i := range 2000 {
		text := string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))
		values = append(values, text)
		kids = append(kids, node{op: opContains, not: true, key: "k", values: []string{"-" + text}})
	}
	kids = append(kids, inNode("k", values))
	n := combine(opAnd, kids)
	if len(n.kids) != 2001 {
		t.Errorf("%d kids, expected all of them to be left", len(n.kids))
	}
	again, err := parse(string(appendNode(nil, &n)), false)
	if err != nil || compareNodes(again, n) != 0 {
		t.Errorf("not canonical: %v", err)
	}
}

type labelMap map[string]string

func (l labelMap) Get(key string) (string, bool) {
	v, found := l[key]
	return v, found
}
