package model

import "iter"

// LabelChange is a key whose value differs between two sets of labels.
type LabelChange struct {
	Key            string
	Old, New       string // empty where the key is not there
	HadOld, HasNew bool
}

// DiffLabels gives the keys whose values differ, in order of key. It costs what
// the two sets are long, and nothing if they are equal.
func DiffLabels(old, now Labels) iter.Seq[LabelChange] {
	return func(yield func(LabelChange) bool) {
		if old == now {
			return
		}
		for a, b := old.Encoded(), now.Encoded(); a != "" || b != ""; {
			var c LabelChange
			if a, b, c = nextChange(a, b); c.HadOld == c.HasNew && c.Old == c.New {
				continue
			}
			if !yield(c) {
				return
			}
		}
	}
}

// nextChange takes the lesser of the first keys of two encoded sets, one of
// which is not empty, off those that have it.
func nextChange(a, b string) (restA, restB string, c LabelChange) {
	keyA, afterA := cutKey(a)
	keyB, afterB := cutKey(b)
	restA, restB = a, b
	if b == "" || a != "" && keyA <= keyB {
		c.Key, c.HadOld = keyA, true
		c.Old, restA = cutText(afterA)
	}
	if a == "" || b != "" && keyB <= keyA {
		c.Key, c.HasNew = keyB, true
		c.New, restB = cutText(afterB)
	}
	return restA, restB, c
}

func cutKey(encoded string) (key, rest string) {
	if encoded == "" {
		return "", ""
	}
	return cutText(encoded)
}
