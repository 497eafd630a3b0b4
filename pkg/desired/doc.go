// Package desired is what a node must enforce, as one value, and what that value
// means: State, its Verdict on a flow, its canonical text. It is all that a
// dataplane is given. What cannot be said here, no dataplane can do.
//
// It is pure and may import pkg/model and pkg/pset only.
package desired
