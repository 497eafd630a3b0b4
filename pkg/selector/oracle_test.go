package selector

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/overland-net/overland/pkg/model"
)

// expression is the slow obvious reading of an expression: its text, and what
// it means. Nothing of the product is used.
type expression struct {
	text string
	// level is 0 for a test, 1 for one with !, 2 for &&, 3 for ||.
	level int
	means func(l map[string]string) bool
}

// generator makes random expressions of few keys and values, so that their
// parts meet.
type generator struct{ *rand.Rand }

func (g generator) one(of ...string) string { return of[g.IntN(len(of))] }

func (g generator) key() string   { return g.one("a", "b", "in", "overland.dev/kind") }
func (g generator) value() string { return g.one("", "x", "y", "xy", "yx", `"x`, "x'y") }
func (g generator) blank() string { return g.one("", "", " ", "\t ") }

func (g generator) quoted(v string) string {
	if strings.Contains(v, `"`) || !strings.Contains(v, `'`) && g.IntN(2) == 0 {
		return `'` + v + `'`
	}
	return `"` + v + `"`
}

func (g generator) expression(depth int) expression {
	if depth > 0 {
		switch g.IntN(4) {
		case 0:
			return g.not(depth)
		case 1:
			return g.list(depth, 2, "&&", func(l map[string]string, kids []expression) bool {
				return !slices.ContainsFunc(kids, func(e expression) bool { return !e.means(l) })
			})
		case 2:
			return g.list(depth, 3, "||", func(l map[string]string, kids []expression) bool {
				return slices.ContainsFunc(kids, func(e expression) bool { return e.means(l) })
			})
		}
	}
	return g.test()
}

func (g generator) wrap(e expression, level int) string {
	if e.level > level || g.IntN(8) == 0 {
		return "(" + g.blank() + e.text + g.blank() + ")"
	}
	return e.text
}

func (g generator) not(depth int) expression {
	e := g.expression(depth - 1)
	return expression{"!" + g.blank() + g.wrap(e, 1), 1, func(l map[string]string) bool { return !e.means(l) }}
}

func (g generator) list(depth, level int, operator string, means func(map[string]string, []expression) bool) expression {
	kids := make([]expression, 2+g.IntN(3))
	texts := make([]string, len(kids))
	for i := range kids {
		kids[i] = g.expression(depth - 1)
		texts[i] = g.wrap(kids[i], level)
	}
	text := strings.Join(texts, g.blank()+operator+g.blank())
	return expression{text, level, func(l map[string]string) bool { return means(l, kids) }}
}

func (g generator) test() expression {
	k, v := g.key(), g.value()
	text := func(operator string, has func(s, part string) bool) expression {
		return expression{k + " " + operator + g.blank() + g.quoted(v), 0, func(l map[string]string) bool {
			got, found := l[k]
			return found && has(got, v)
		}}
	}
	switch g.IntN(9) {
	case 0:
		return expression{"has(" + g.blank() + k + g.blank() + ")", 0, func(l map[string]string) bool {
			_, found := l[k]
			return found
		}}
	case 1, 2:
		return text("==", func(s, part string) bool { return s == part })
	case 3:
		e := text("!=", func(s, part string) bool { return s == part })
		return expression{e.text, 0, func(l map[string]string) bool { return !e.means(l) }}
	case 4:
		return text("contains", strings.Contains)
	case 5:
		return text("starts"+g.blank()+"with", strings.HasPrefix)
	case 6:
		return text("ends"+g.blank()+"with", strings.HasSuffix)
	}
	return g.set(k)
}

func (g generator) set(k string) expression {
	values := make([]string, g.IntN(4))
	var list string
	for i := range values {
		values[i] = g.value()
		list += g.quoted(values[i]) + g.blank()
		if i < len(values)-1 || g.IntN(4) == 0 {
			list += ","
		}
		list += g.blank()
	}
	in := func(l map[string]string) bool {
		got, found := l[k]
		return found && slices.Contains(values, got)
	}
	if g.IntN(2) == 0 {
		return expression{k + " in" + g.blank() + "{" + g.blank() + list + "}", 0, in}
	}
	return expression{k + " not" + g.blank() + "in{" + list + "}", 0, func(l map[string]string) bool { return !in(l) }}
}

func (g generator) labels() map[string]string {
	l := map[string]string{}
	for range g.IntN(5) {
		l[g.key()] = g.value()
	}
	return l
}

func newGenerator(seed uint64) generator { return generator{rand.New(rand.NewPCG(seed, 3))} }

// TestCanonicalFormMeansWhatWasWritten compares with the obvious evaluation.
func TestCanonicalFormMeansWhatWasWritten(t *testing.T) {
	for seed := range uint64(20000) {
		g := newGenerator(seed)
		e := g.expression(g.IntN(4))
		s, err := Parse(e.text)
		if err != nil {
			t.Fatalf("Parse(%q): %v", e.text, err)
		}
		m := s.Compile()
		if again, err := Parse(s.String()); err != nil || again != s {
			t.Fatalf("%q becomes %s, and that %s (%v)", e.text, s, again, err)
		}
		for range 20 {
			l := g.labels()
			want := e.means(l)
			if got := m.Matches(labelMap(l)); got != want {
				t.Fatalf("%q, canonical %s, on %v is %v, expected %v", e.text, s, l, got, want)
			}
			if want {
				checkCovers(t, m, l)
			}
		}
	}
}

func checkCovers(t *testing.T, m *Matcher, l map[string]string) {
	t.Helper()
	if m.Impossible() {
		t.Fatalf("%s is called impossible, but matches %v", m.Selector(), l)
	}
	for _, cover := range m.Covers() {
		if !slices.ContainsFunc(cover, func(term Term) bool {
			v, found := l[term.Key]
			return found && (term.AnyValue || v == term.Value)
		}) {
			t.Fatalf("%s matches %v, but not its cover %v", m.Selector(), l, cover)
		}
	}
}

func TestAndOrNotAreBoolean(t *testing.T) {
	for seed := range uint64(3000) {
		g := newGenerator(seed)
		x, y, z := g.expression(2), g.expression(2), g.expression(1)
		sx, sy, sz := mustParse(t, x.text), mustParse(t, y.text), mustParse(t, z.text)
		and, or, not := And(sx, sy, sz).Compile(), Or(sx, sy, sz).Compile(), Not(sx).Compile()
		for range 10 {
			l := g.labels()
			bx, by, bz := x.means(l), y.means(l), z.means(l)
			if and.Matches(labelMap(l)) != (bx && by && bz) || or.Matches(labelMap(l)) != (bx || by || bz) || not.Matches(labelMap(l)) == bx {
				t.Fatalf("%s, %s, %s on %v: and %s, or %s, not %s", sx, sy, sz, l, and.Selector(), or.Selector(), not.Selector())
			}
		}
		if Not(Not(sx)) != sx {
			t.Fatalf("the double negation of %s is %s", sx, Not(Not(sx)))
		}
		if s := and.Selector(); s != And(sz, sy, sx) || s != mustParse(t, "("+x.text+")&&("+y.text+")&&("+z.text+")") {
			t.Fatalf("%s depends on the order", s)
		}
		if s := or.Selector(); s != Or(sz, sy, sx) {
			t.Fatalf("%s depends on the order", s)
		}
	}
}

func mustParse(t testing.TB, expr string) Selector {
	t.Helper()
	s, err := Parse(expr)
	if err != nil {
		t.Fatalf("Parse(%q): %v", expr, err)
	}
	return s
}

// TestLabelSelectorsMeanWhatKubernetesMeans compares with apimachinery. What it
// refuses must match nothing.
func TestLabelSelectorsMeanWhatKubernetesMeans(t *testing.T) {
	refused, matched := 0, 0
	for seed := range uint64(20000) {
		g := newGenerator(seed)
		ours, theirs := g.labelSelector()
		s := FromLabelSelector(ours, nil)
		m := s.Compile()
		oracle, err := metav1.LabelSelectorAsSelector(theirs)
		if err != nil {
			if refused++; !m.Impossible() {
				t.Fatalf("%v becomes %s, but apimachinery says %v", ours, s, err)
			}
			continue
		}
		if again := mustParse(t, s.String()); again != s {
			t.Fatalf("%s read again is %s", s, again)
		}
		for range 10 {
			l := map[string]string{}
			for range g.IntN(4) {
				l[g.one("a", "b", "c.d/e")] = g.one("", "x", "y", "z")
			}
			want := oracle.Matches(labels.Set(l))
			if got := m.Matches(labelMap(l)); got != want {
				t.Fatalf("%v, canonical %s, on %v is %v, expected %v", ours, s, l, got, want)
			}
			if want {
				matched++
				checkCovers(t, m, l)
			}
		}
	}
	if refused == 0 || matched == 0 {
		t.Errorf("%d refused, %d matched: the test tests nothing", refused, matched)
	}
}

func (g generator) labelSelector() (model.LabelSelector, *metav1.LabelSelector) {
	var ours model.LabelSelector
	theirs := &metav1.LabelSelector{}
	for range g.IntN(4) {
		key := g.one("a", "b", "c.d/e")
		var values []string
		for range g.IntN(3) {
			values = append(values, g.one("", "x", "y", "z"))
		}
		if g.IntN(300) == 0 {
			values = append(values, `'"`)
		}
		operator, name := model.Exists, metav1.LabelSelectorOpExists
		switch g.IntN(5) {
		case 0:
			operator, name = model.In, metav1.LabelSelectorOpIn
		case 1:
			operator, name = model.NotIn, metav1.LabelSelectorOpNotIn
		case 2:
			operator, name = model.DoesNotExist, metav1.LabelSelectorOpDoesNotExist
		case 3: // matchLabels
			if _, taken := theirs.MatchLabels[key]; taken {
				continue
			}
			value := g.one("", "x", "y")
			metav1.AddLabelToSelector(theirs, key, value)
			ours = append(ours, model.Requirement{Key: key, Operator: model.In, Values: []string{value}})
			continue
		}
		if operator == model.Exists || operator == model.DoesNotExist {
			values = nil
		} else if len(values) == 1 && values[0] == `'"` {
			values = append(values, "x")
		}
		if operator == model.In && slices.Contains(values, `'"`) {
			continue // there apimachinery refuses it all, and we one value
		}
		ours = append(ours, model.Requirement{Key: key, Operator: operator, Values: values})
		theirs.MatchExpressions = append(theirs.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: name, Values: values})
	}
	return ours, theirs
}

func FuzzParse(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(newGenerator(seed).expression(3).text, "x")
	}
	for _, s := range []string{``, `a=='b'&&!(c in {"d",'e',})||has(f)`, `a starts`, `((((`, `!!!`, `k not in {`, "a == '\xff", `all()&&global ()`} {
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, expr, value string) {
		s, err := Parse(expr)
		if err != nil {
			if message := err.Error(); !strings.HasPrefix(message, fmt.Sprintf("position %d: expected ", err.(*SyntaxError).Offset)) {
				t.Errorf("error %q", message)
			}
			return
		}
		if again, err := Parse(s.String()); err != nil || again != s {
			t.Fatalf("%q becomes %q, and that %q (%v)", expr, s, again, err)
		}
		if double := Not(Not(s)); double != s {
			t.Fatalf("%q: the double negation is %q", s, double)
		}
		m := s.Compile()
		l := labelMap{"a": value}
		for _, k := range m.Keys() {
			if !m.Mentions(k) {
				t.Errorf("%q does not mention its key %q", s, k)
			}
			l[k] = value
		}
		if m.Matches(l) {
			checkCovers(t, m, l)
		}
		if m.Matches(l) == Not(s).Compile().Matches(l) {
			t.Errorf("%q and its negation are the same of %v", s, l)
		}
	})
}
