package selector

import (
	"errors"
	"strings"
	"testing"
)

// TestGrammar_4_3 reads each corner of the grammar, and shows its canonical form.
func TestGrammar_4_3(t *testing.T) {
	longest := strings.Repeat("k", MaxKey)
	for _, c := range []struct{ name, expr, canonical string }{
		{"empty is all()", ``, `all()`},
		{"blank is all()", " \t ", `all()`},
		{"all()", `all()`, `all()`},
		{"global() is all()", `global()`, `all()`},
		{"never", `!all()`, `!all()`},
		{"blanks within functions", `all(  ) && has( foo )&&global(	)`, `has(foo)`},
		{"==", `k == 'v'`, `k == "v"`},
		{"!=", `k != "v"`, `k != "v"`},
		{"in", `k in {'b', "a"}`, `k in {"a", "b"}`},
		{"not in", `k not in {'b', "a"}`, `k not in {"a", "b"}`},
		{"contains", `k contains 'x'`, `k contains "x"`},
		{"starts with", `k starts with 'x'`, `k starts with "x"`},
		{"ends with", `k ends with 'x'`, `k ends with "x"`},
		{"has", `has(k)`, `has(k)`},
		{"operators may touch labels and quotes", `a=="b"&&c!='d'||has(e)`, `has(e) || a == "b" && c != "d"`},
		{"words may touch quotes", `a contains"b"||a ends with'c'||a starts with"d"`, `a contains "b" || a starts with "d" || a ends with "c"`},
		{"words may touch braces", `a in{"b"}`, `a == "b"`},
		{"no blanks between words", `a startswith "b" && c endswith "d" && e notin {"f", "g"}`, `a starts with "b" && c ends with "d" && e not in {"f", "g"}`},
		{"many blanks between words", "a starts \t with 'b' && e not  in{'f'}", `a starts with "b" && e != "f"`},
		{"! over && over ||", `!has(a) && has(b) || has(c)`, `has(c) || !has(a) && has(b)`},
		{"|| under &&", `has(a) && (has(b) || has(c))`, `has(a) && (has(b) || has(c))`},
		{"|| after &&", `has(a) || has(b) && has(c)`, `has(a) || has(b) && has(c)`},
		{"! binds to the next operation only", `!a == 'b' && c == 'd'`, `a != "b" && c == "d"`},
		{"an even run of ! cancels", `!!has(a) && !! !!has(b)`, `has(a) && has(b)`},
		{"an odd run of ! is one", `! ! !has(a)`, `!has(a)`},
		{"! of parentheses", `!(a == 'b')`, `a != "b"`},
		{"a negated text test stays a leaf", `!(a contains 'b')`, `!a contains "b"`},
		{"de Morgan", `!(has(a) && b == 'c' || d contains 'e')`, `!d contains "e" && (!has(a) || b != "c")`},
		{"parentheses in parentheses", `(((has(a))))`, `has(a)`},
		{"the empty set", `a in {}`, `!all()`},
		{"not in the empty set", `a not in { }`, `all()`},
		{"a trailing comma", `a in {'b', 'c' , }`, `a in {"b", "c"}`},
		{"a set of one", `a in {'b', "b",}`, `a == "b"`},
		{"not in a set of one", `a not in {'b'}`, `a != "b"`},
		{"double quotes within single ones", `a == '"'`, `a == '"'`},
		{"single quotes within double ones", `a == "it's"`, `a == "it's"`},
		{"no escapes", `a == 'b\'`, `a == "b\"`},
		{"an empty value", `a == ''`, `a == ""`},
		{"anything within quotes", "a == '\n\t&& \xff'", "a == \"\n\t&& \xff\""},
		{"keywords are label names", `contains contains 'contains'`, `contains contains "contains"`},
		{"in is one", `in == 'x' && in in {'x', 'y'}`, `in == "x"`},
		{"not is one", `not in {'x'} && not not in {'y'}`, `not == "x"`},
		{"starts, ends, with are", `starts starts with 'x' && ends ends with 'y' && has(with)`, `ends ends with "y" && starts starts with "x" && has(with)`},
		{"all, has, global are, unless ( follows directly", `all == 'x' && has != 'y' && global in {'z'} && has(all) && has(has)`, `all == "x" && global == "z" && has(has) && has != "y"`},
		{"any bytes of label names", `has(-_./Aa0//z) && 9 == '9'`, `has(-_./Aa0//z) && 9 == "9"`},
		{"the longest label name", `has(` + longest + `)`, `has(` + longest + `)`},
		{"every value contains nothing", `a contains '' && b starts with "" && c ends with ''`, `has(a) && has(b) && has(c)`},
		{"the deepest nesting", strings.Repeat("(", MaxNesting) + "has(a)" + strings.Repeat(")", MaxNesting), `has(a)`},
		{"nesting is not summed up", strings.Repeat("((has(a))) && ", 100) + "has(b)", `has(a) && has(b)`},
		{"many negations", strings.Repeat("!", MaxLength-6) + "has(a)", `has(a)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Parse(c.expr)
			if err != nil {
				t.Fatalf("Parse(%q): %v", c.expr, err)
			}
			if s.String() != c.canonical {
				t.Errorf("Parse(%q) is %s, expected %s", c.expr, s, c.canonical)
			}
			again, err := Parse(s.String())
			if err != nil || again != s {
				t.Errorf("%s read again is %s, %v", s, again, err)
			}
		})
	}
}

func TestErrorsNameThePositionAndWhatWasExpected_4_3(t *testing.T) {
	const (
		operand  = `a label name, "has(", "all()", "global()", "!" or "("`
		operator = `: "==", "!=", "in", "not in", "contains", "starts with" or "ends with"`
		newline  = "; only spaces and tabs may separate words, not a line break"
	)
	for _, c := range []struct {
		name, expr string
		offset     int
		expected   string
	}{
		{"a single =", `a = 'b'`, 2, `an operator after "a"` + operator},
		{"a single &", `has(a) & has(b)`, 7, `"&&"`},
		{"a single |", `has(a) | has(b)`, 7, `"||"`},
		{"a bare label", `a`, 1, `an operator after "a"` + operator},
		{"a label on the right", `a == b`, 5, `a quoted string after "=="`},
		{"no right side", `region-code ==`, 14, `a quoted string after "=="`},
		{"a literal on the left", `'a' == 'b'`, 0, operand},
		{"a literal after contains", `a contains b`, 11, `a quoted string after "contains"`},
		{"an open single quote", `a == 'b"`, 5, `a closing ' of the string that begins here`},
		{"an open double quote in a set", `a in {"b", "c}`, 11, `a closing " of the string that begins here`},
		{"an open parenthesis", `(has(a)`, 7, `")"`},
		{"an open parenthesis before more", `(has(a) has(b)`, 8, `"&&", "||" or ")"`},
		{"a superfluous parenthesis", `has(a))`, 6, `"&&", "||" or the end`},
		{"an open brace", `a in {'b'`, 9, `"," or "}"`},
		{"an open empty brace", `a in {`, 6, `a quoted string or "}"`},
		{"a comma alone", `a in {,}`, 6, `a quoted string or "}"`},
		{"two commas", `a in {'b',,}`, 10, `a quoted string or "}"`},
		{"no comma", `a in {'b' 'c'}`, 10, `"," or "}"`},
		{"a label in a set", `a in {b}`, 6, `a quoted string or "}"`},
		{"no brace", `a in 'b'`, 5, `"{" after "in"`},
		{"no brace after not in", `a not in 'b'`, 9, `"{" after "not in"`},
		{"empty parentheses", `()`, 1, operand},
		{"a trailing &&", `has(a) &&`, 9, operand},
		{"a trailing ||", `has(a) || `, 10, operand},
		{"a trailing !", `!`, 1, operand},
		{"a leading &&", `&& has(a)`, 0, operand},
		{"two tests", `has(a) has(b)`, 7, `"&&", "||" or the end`},
		{"no word boundary after in", `label inf "x"`, 6, `an operator after "label"` + operator},
		{"no word boundary after not in", `label notinf {"x"}`, 6, `an operator after "label"` + operator},
		{"no word boundary after starts with", `label starts withx "x"`, 6, `an operator after "label"` + operator},
		{"starts without with", `label starts "x"`, 13, `"with" after "starts"`},
		{"not without in", `label not`, 9, `"in" after "not"`},
		{"a blank before the ( of all", `all ()`, 4, `an operator after "all"` + operator},
		{"a blank before the ( of has", `has (a)`, 4, `an operator after "has"` + operator},
		{"an argument of all", `all(a)`, 4, `")" after "all"`},
		{"has of nothing", `has()`, 4, `a label name after "has("`},
		{"has of two", `has(a b)`, 6, `")" after "has(a"`},
		{"has of a string", `has('a')`, 4, `a label name after "has("`},
		{"an unknown function", `any(a)`, 3, `an operator after "any"` + operator},
		{"upper case", `a IN {'b'}`, 2, `an operator after "a"` + operator},
		{"a line break", "has(a)\n&& has(b)", 6, `"&&", "||" or the end` + newline},
		{"a line break before a label", "\nhas(a)", 0, operand + newline},
		{"a carriage return", "a ==\r'b'", 4, `a quoted string after "=="` + newline},
		{"a letter that labels do not have", `ä == 'b'`, 0, operand},
		{"another blank", "a\u00a0== 'b'", 1, `an operator after "a"` + operator},
		{"a zero byte", "a == 'b'\x00", 8, `"&&", "||" or the end`},
		{"too long a label name", `has(` + strings.Repeat("k", MaxKey+1) + `)`, 4, `a label name of at most 512 characters`},
		{"too deep", strings.Repeat("(", MaxNesting+1) + "has(a)", MaxNesting, `at most 64 parentheses in each other`},
		{"too deep with negations", strings.Repeat("!(", 1000), 2*MaxNesting + 1, `at most 64 parentheses in each other`},
		{"too long", strings.Repeat(" ", MaxLength+1), MaxLength, `a shorter expression: at most 65536 bytes, also when written in full`},
		{"too long when written in full", strings.Repeat("(has(a)||b=='c')&&", 1) + bulk(), MaxLength, `a shorter expression: at most 65536 bytes, also when written in full`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Parse(c.expr)
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("Parse is %s, %v, expected a *SyntaxError", s, err)
			}
			if *syntax != (SyntaxError{c.offset, c.expected}) {
				t.Errorf("error is %q, expected position %d and %q", err, c.offset, c.expected)
			}
		})
	}
}

// bulk is an expression within the limit whose canonical text is not.
func bulk() string {
	var b strings.Builder
	for i := range 4000 {
		if i > 0 {
			b.WriteString("&&")
		}
		b.WriteString("k" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)) + "=='c'")
	}
	return b.String()
}

func TestErrorText(t *testing.T) {
	_, err := Parse(`region in ==`)
	if err == nil || err.Error() != `position 10: expected "{" after "in"` {
		t.Errorf("error is %q", err)
	}
}
