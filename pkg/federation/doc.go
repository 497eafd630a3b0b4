// Package federation is what one elected agent does for the whole cluster: it
// writes the status of every RemoteCluster and publishes the cluster's own name.
// Who leads is settled by a Lease (Leader); what a status says is a pure
// function of a snapshot and the existing object (PlanStatus); StatusWriter
// writes it at a bounded rate for as long as its agent leads.
//
// Pure by file, without goroutine, lock, context or log: candidates.go, pace.go,
// status.go, conditions.go and reasons.go. The shell is election.go, term.go and
// writer.go.
//
// It may import pkg/model, pkg/index, pkg/agent, pkg/api/v1alpha1 and
// pkg/api/client.
package federation
