package selector

import (
	"fmt"
	"strings"
)

// The limits of what Parse reads. An expression is an annotation's value or an
// argument, and is parsed by everyone who sees it: what is longer or deeper is
// no work of a person, and must cost nothing.
const (
	MaxLength  = 64 << 10 // bytes of an expression, and of its canonical text
	MaxNesting = 64       // parentheses in parentheses
	MaxKey     = 512      // bytes of a label name (semantics 4.3)
)

// SyntaxError is what is wrong with an expression.
type SyntaxError struct {
	Offset   int    // in bytes, from 0
	Expected string // at Offset, in words
}

// Error names the position, from 0, and what was expected there.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("position %d: expected %s", e.Offset, e.Expected)
}

func tooLong() *SyntaxError {
	return &SyntaxError{MaxLength, fmt.Sprintf("a shorter expression: at most %d bytes, also when written in full", MaxLength)}
}

// parse reads a text. One that is known to be canonical is read without limits
// and comes out as it is written.
func parse(text string, canonical bool) (node, error) {
	p := parser{text: text, canonical: canonical}
	if p.skipBlanks(); p.pos == len(text) {
		return node{}, nil
	}
	n := p.disjunction()
	if p.err == nil && p.pos < len(text) {
		p.unexpected()
	}
	if p.err != nil {
		return node{}, p.err
	}
	return n, nil
}

// parser reads a text by recursive descent. After an error it only returns.
type parser struct {
	text      string
	pos       int
	depth     int  // of parentheses
	not       bool // an odd number of negations is around: it is pushed down at once
	canonical bool
	err       *SyntaxError
}

func (p *parser) fail(offset int, expected string) {
	if p.err == nil {
		if offset < len(p.text) && (p.text[offset] == '\n' || p.text[offset] == '\r') {
			expected += "; only spaces and tabs may separate words, not a line break"
		}
		p.err = &SyntaxError{offset, expected}
	}
}

// unexpected is for what follows a complete operation.
func (p *parser) unexpected() {
	switch rest := p.text[p.pos:]; {
	case rest[0] == '&':
		p.fail(p.pos, `"&&"`)
	case rest[0] == '|':
		p.fail(p.pos, `"||"`)
	case p.depth > 0:
		p.fail(p.pos, `"&&", "||" or ")"`)
	default:
		p.fail(p.pos, `"&&", "||" or the end`)
	}
}

func (p *parser) skipBlanks() {
	for p.pos < len(p.text) && (p.text[p.pos] == ' ' || p.text[p.pos] == '\t') {
		p.pos++
	}
}

// accept skips blanks, and s if it is there.
func (p *parser) accept(s string) bool {
	p.skipBlanks()
	if strings.HasPrefix(p.text[p.pos:], s) {
		p.pos += len(s)
		return true
	}
	return false
}

func (p *parser) disjunction() node {
	return p.list(opOr, "||", (*parser).conjunction)
}

func (p *parser) conjunction() node {
	return p.list(opAnd, "&&", (*parser).operation)
}

// list reads operands of an operator. Blanks behind it are skipped.
func (p *parser) list(op operation, operator string, operand func(*parser) node) node {
	first := operand(p)
	if p.err != nil || !p.accept(operator) {
		return first
	}
	kids := []node{first}
	for {
		kids = append(kids, operand(p))
		if p.err != nil || !p.accept(operator) {
			break
		}
	}
	if p.not {
		op = opAnd + opOr - op
	}
	if p.canonical || p.err != nil {
		return node{op: op, kids: kids}
	}
	return combine(op, kids)
}

// operation reads a test, or something in parentheses, and the negations before.
func (p *parser) operation() node {
	around := p.not
	defer func() { p.not = around }()
	for p.accept("!") {
		p.not = !p.not
	}
	if p.accept("(") {
		return p.parentheses()
	}
	n := p.test()
	if p.not {
		return n.negated()
	}
	return n
}

func (p *parser) parentheses() node {
	if p.depth++; p.depth > MaxNesting && !p.canonical {
		p.fail(p.pos-1, fmt.Sprintf("at most %d parentheses in each other", MaxNesting))
		return node{}
	}
	n := p.disjunction()
	if p.err == nil && !p.accept(")") {
		if p.pos == len(p.text) {
			p.fail(p.pos, `")"`)
			return n
		}
		p.unexpected()
	}
	p.depth--
	return n
}

// keyByte tells the bytes of label names.
func keyByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '_' || c == '.' || c == '/' || c == '-'
}

// word reads the longest run of bytes of label names.
func (p *parser) word() string {
	start := p.pos
	for p.pos < len(p.text) && keyByte(p.text[p.pos]) {
		p.pos++
	}
	return p.text[start:p.pos]
}

// key reads a label name.
func (p *parser) key(expected string) string {
	start := p.pos
	key := p.word()
	switch {
	case key == "":
		p.fail(start, expected)
	case len(key) > MaxKey:
		p.fail(start, fmt.Sprintf("a label name of at most %d characters", MaxKey))
	}
	return key
}

// test reads a function, or a label name with an operator.
func (p *parser) test() node {
	key := p.key(`a label name, "has(", "all()", "global()", "!" or "("`)
	if p.err != nil {
		return node{}
	}
	if p.pos < len(p.text) && p.text[p.pos] == '(' {
		switch key {
		case "all", "global":
			p.pos++
			p.closing(key)
			return node{op: opAll}
		case "has":
			p.pos++
			p.skipBlanks()
			n := node{op: opHas, key: p.key(`a label name after "has("`)}
			p.closing("has(" + n.key)
			return n
		}
	}
	return p.operator(key)
}

func (p *parser) closing(after string) {
	if p.err == nil && !p.accept(")") {
		p.fail(p.pos, fmt.Sprintf(`")" after %q`, after))
	}
}

// operator reads what follows a label name.
func (p *parser) operator(key string) node {
	switch {
	case p.accept("=="):
		return node{op: opIn, key: key, values: p.value("==")}
	case p.accept("!="):
		return node{op: opIn, not: true, key: key, values: p.value("!=")}
	case p.words("in", ""):
		return p.set(key, "in")
	case p.words("not", "in"):
		n := p.set(key, "not in")
		return n.negated()
	case p.words("contains", ""):
		return p.textTest(opContains, key, "contains")
	case p.words("starts", "with"):
		return p.textTest(opStartsWith, key, "starts with")
	case p.words("ends", "with"):
		return p.textTest(opEndsWith, key, "ends with")
	}
	p.fail(p.pos, fmt.Sprintf(`an operator after %q: "==", "!=", "in", "not in", "contains", "starts with" or "ends with"`, key))
	return node{}
}

// words reads an operator of one or two words: there may be blanks between
// them, and must be an end behind them.
func (p *parser) words(first, second string) bool {
	if p.err != nil {
		return false
	}
	start := p.pos
	if !p.accept(first) {
		return false
	}
	if second != "" && !p.accept(second) {
		if p.pos == len(p.text) || !keyByte(p.text[p.pos]) {
			p.fail(p.pos, fmt.Sprintf("%q after %q", second, first))
		}
		p.pos = start
		return false
	}
	if p.pos < len(p.text) && keyByte(p.text[p.pos]) {
		p.pos = start
		return false
	}
	return true
}

// value reads a string into a slice of one.
func (p *parser) value(operator string) []string {
	v, ok := p.quoted()
	if !ok {
		p.fail(p.pos, fmt.Sprintf("a quoted string after %q", operator))
	}
	return []string{v}
}

func (p *parser) textTest(op operation, key, operator string) node {
	return textNode(op, key, p.value(operator)[0])
}

// quoted reads a string, if one begins here.
func (p *parser) quoted() (value string, ok bool) {
	p.skipBlanks()
	if p.err != nil || p.pos == len(p.text) || p.text[p.pos] != '"' && p.text[p.pos] != '\'' {
		return "", false
	}
	quote, rest := p.text[p.pos:p.pos+1], p.text[p.pos+1:]
	value, _, closed := strings.Cut(rest, quote)
	if !closed {
		p.fail(p.pos, fmt.Sprintf("a closing %s of the string that begins here", quote))
		return "", true
	}
	p.pos += len(value) + 2
	return value, true
}

// set reads the values of in and not in.
func (p *parser) set(key, operator string) node {
	if !p.accept("{") {
		p.fail(p.pos, fmt.Sprintf(`"{" after %q`, operator))
		return node{}
	}
	var values []string
	for p.err == nil && !p.accept("}") {
		v, ok := p.quoted()
		if !ok {
			p.fail(p.pos, `a quoted string or "}"`)
			break
		}
		values = append(values, v)
		if p.err == nil && !p.accept(",") && (p.pos == len(p.text) || p.text[p.pos] != '}') {
			p.fail(p.pos, `"," or "}"`)
		}
	}
	if p.canonical {
		return node{op: opIn, key: key, values: values}
	}
	return inNode(key, values)
}
