package model

import (
	"encoding/binary"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"unique"
)

// Labels is an immutable set of labels. Equal sets are equal by ==, and share
// their memory: the pods of one workload mostly have the same. The zero value
// is the empty set.
type Labels struct {
	// The pairs by key, each of key and value preceded by its length as a
	// varint: compact, and one pair's text is a substring that can be a map key.
	encoded unique.Handle[string]
}

// NewLabels is the set with the pairs of m.
func NewLabels(m map[string]string) Labels {
	if len(m) == 0 {
		return Labels{}
	}
	size := 0
	for k, v := range m {
		size += len(k) + len(v) + 4
	}
	b := make([]byte, 0, size)
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b = appendText(b, k)
		b = appendText(b, m[k])
	}
	return Labels{unique.Make(string(b))}
}

var errLabels = errors.New("not an encoded label set")

// DecodeLabels is the reverse of Encoded. Anything that Encoded does not give
// is an error.
func DecodeLabels(encoded string) (Labels, error) {
	if encoded == "" {
		return Labels{}, nil
	}
	last, first := "", true
	for rest := encoded; rest != ""; {
		var key string
		var ok bool
		if key, rest, ok = cutTextChecked(rest); !ok {
			return Labels{}, errLabels
		}
		if _, rest, ok = cutTextChecked(rest); !ok {
			return Labels{}, errLabels
		}
		if !first && key <= last {
			return Labels{}, errLabels
		}
		last, first = key, false
	}
	return Labels{unique.Make(encoded)}, nil
}

// Encoded is the canonical text of the set, made for storing and comparing, not
// for people.
func (l Labels) Encoded() string {
	if l == (Labels{}) {
		return ""
	}
	return l.encoded.Value()
}

// Get is the value of a key, and whether it is there.
func (l Labels) Get(key string) (string, bool) {
	for rest := l.Encoded(); rest != ""; {
		var k, v string
		k, rest = cutText(rest)
		v, rest = cutText(rest)
		if k == key {
			return v, true
		}
		if k > key {
			break
		}
	}
	return "", false
}

// All gives the pairs by key.
func (l Labels) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for rest := l.Encoded(); rest != ""; {
			var k, v string
			k, rest = cutText(rest)
			v, rest = cutText(rest)
			if !yield(k, v) {
				return
			}
		}
	}
}

// Len is the number of labels.
func (l Labels) Len() int {
	n := 0
	for range l.All() {
		n++
	}
	return n
}

// Map is a new map with the pairs; nil if there are none.
func (l Labels) Map() map[string]string {
	if l == (Labels{}) {
		return nil
	}
	return maps.Collect(l.All())
}

// String is the form of kubectl: k=v,k=v.
func (l Labels) String() string {
	var b strings.Builder
	for k, v := range l.All() {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(k + "=" + v)
	}
	return b.String()
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// cutText is for text that is known to be well formed.
func cutText(s string) (text, rest string) {
	n, width := uint(s[0]), uint(1)
	if n >= 0x80 {
		n, width = longUvarint(s)
	}
	return s[width : width+n], s[width+n:]
}

func longUvarint(s string) (value, width uint) {
	for shift := uint(0); ; shift += 7 {
		c := s[width]
		width++
		value |= uint(c&0x7f) << shift
		if c < 0x80 {
			return value, width
		}
	}
}

func cutTextChecked(s string) (text, rest string, ok bool) {
	var head [binary.MaxVarintLen64]byte
	n, width := binary.Uvarint(head[:copy(head[:], s)])
	if width <= 0 || n > uint64(len(s)-width) {
		return "", "", false
	}
	// Only the shortest form of a length is canonical.
	if width != len(binary.AppendUvarint(nil, n)) {
		return "", "", false
	}
	return s[width : width+int(n)], s[width+int(n):], true
}
