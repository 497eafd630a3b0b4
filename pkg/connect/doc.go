// Package connect links and unlinks two clusters with the rights of a person
// who may administer both: it gathers facts of each (gather.go), checks them
// (preflight.go and the check_*.go beside it), plans the objects that the link
// is made of (plan.go), and applies or removes them, one by one and never what
// it has not made itself (apply.go, disconnect.go). Every step can be repeated:
// what was done half is finished by doing it again.
//
// Facts, ranges, checks and plans are values and pure functions of them.
//
// It may import pkg/model, pkg/api/v1alpha1, pkg/api/client and pkg/source.
package connect
