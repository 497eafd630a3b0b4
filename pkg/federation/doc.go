// Package federation is what one elected agent does for the whole cluster: it
// writes the status of every RemoteCluster and Events about NetworkPolicies, and
// publishes the cluster's own name.
// Who leads is settled by a Lease (Leader); what a status says is a pure
// function of a snapshot and the existing object (PlanStatus); StatusWriter
// writes it at a bounded rate for as long as its agent leads. Which Events are due
// is decided by an announcer; EventWriter writes them.
//
// Pure by file, without goroutine, lock, context or log: candidates.go, pace.go,
// status.go, conditions.go, reasons.go, events.go and announce.go. The shell is
// election.go, term.go, writer.go and eventwriter.go.
//
// It may import pkg/model, pkg/index, pkg/agent, pkg/api/v1alpha1 and
// pkg/api/client.
package federation
