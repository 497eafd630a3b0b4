// Package selector is which endpoints, or Services, are meant: Kubernetes label
// selectors and federation expressions (semantics 4.3), compiled to one
// canonical form. Two spellings of one meaning mostly become one Selector, so
// that what depends on it is computed once; a Matcher evaluates it.
//
// The canonical form is an expression again, with negations at the leaves,
// nested && and || made flat, operands sorted, constants folded and the
// requirements on one key merged. It is a normal form of spelling, not of
// logic: equal selectors mean the same, unequal ones may.
//
// It is pure and may import pkg/model only.
package selector
