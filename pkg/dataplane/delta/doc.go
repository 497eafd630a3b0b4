// Package delta is the difference of two States, as a dataplane needs it: which
// sets and members come and go, whether rules have become tighter, and which
// connections must be judged again or forgotten.
//
// It is pure and may import pkg/model, pkg/pset and pkg/desired only.
package delta
