package selector

import "strings"

// appendNode writes a canonical tree.
func appendNode(b []byte, n *node) []byte {
	switch n.op {
	case opAll:
		return append(b, allText...)
	case opNever:
		return append(b, neverText...)
	case opAnd:
		for i := range n.kids {
			if i > 0 {
				b = append(b, " && "...)
			}
			if n.kids[i].op == opOr {
				b = append(b, '(')
				b = appendNode(b, &n.kids[i])
				b = append(b, ')')
				continue
			}
			b = appendNode(b, &n.kids[i])
		}
		return b
	case opOr:
		for i := range n.kids {
			if i > 0 {
				b = append(b, " || "...)
			}
			b = appendNode(b, &n.kids[i])
		}
		return b
	}
	return appendLeaf(b, n)
}

func appendLeaf(b []byte, n *node) []byte {
	if n.op == opIn {
		return appendIn(b, n)
	}
	if n.not {
		b = append(b, '!')
	}
	if n.op == opHas {
		b = append(b, "has("...)
		b = append(b, n.key...)
		return append(b, ')')
	}
	b = append(b, n.key...)
	switch n.op {
	case opContains:
		b = append(b, " contains "...)
	case opStartsWith:
		b = append(b, " starts with "...)
	default:
		b = append(b, " ends with "...)
	}
	return appendQuoted(b, n.values[0])
}

func appendIn(b []byte, n *node) []byte {
	b = append(b, n.key...)
	if len(n.values) == 1 {
		operator := " == "
		if n.not {
			operator = " != "
		}
		b = append(b, operator...)
		return appendQuoted(b, n.values[0])
	}
	if n.not {
		b = append(b, " not"...)
	}
	b = append(b, " in {"...)
	for i, v := range n.values {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendQuoted(b, v)
	}
	return append(b, '}')
}

func appendQuoted(b []byte, value string) []byte {
	quote := byte('"')
	if strings.IndexByte(value, quote) >= 0 {
		quote = '\''
	}
	b = append(b, quote)
	b = append(b, value...)
	return append(b, quote)
}
