package podspec

import "strings"

// Expand replaces each $(NAME) in text by the variable's value. A name that is
// not known stays as it is written, and $$ stands for one dollar sign, as the
// Kubernetes API defines for env values, commands and arguments.
func Expand(text string, vars map[string]string) string {
	var out strings.Builder
	for {
		at := strings.IndexByte(text, '$')
		if at < 0 || at == len(text)-1 {
			out.WriteString(text)
			return out.String()
		}
		out.WriteString(text[:at])
		text = text[at+1:]
		switch text[0] {
		case '$':
			out.WriteByte('$')
			text = text[1:]
		case '(':
			end := strings.IndexByte(text, ')')
			if end < 0 {
				out.WriteByte('$')
				continue
			}
			value, known := vars[text[1:end]]
			if !known {
				value = "$" + text[:end+1]
			}
			out.WriteString(value)
			text = text[end+1:]
		default:
			out.WriteByte('$')
			out.WriteByte(text[0])
			text = text[1:]
		}
	}
}

// ExpandAll is Expand for each of the texts; nil stays nil.
func ExpandAll(texts []string, vars map[string]string) []string {
	if texts == nil {
		return nil
	}
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = Expand(text, vars)
	}
	return out
}
