// Package admin is the agent's window: an HTTP server on a unix socket for
// root, and one on a TCP port for metrics and health alone. Every answer is a
// pure function of a snapshot, the time and the request; nothing here changes
// anything.
//
// Of this repository it may import pkg/model, pkg/pset, pkg/selector, pkg/index,
// pkg/agent, pkg/federation and pkg/admin/api.
package admin
