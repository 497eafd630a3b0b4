// Package federation is what one elected agent does for the whole cluster: it
// federates Services, writes the status of every RemoteCluster and Events about
// NetworkPolicies and federated Services, and publishes the cluster's own name.
// Who leads is settled by a Lease (Leader); what a status says is a pure
// function of a snapshot and the existing object (PlanStatus); StatusWriter
// writes it at a bounded rate for as long as its agent leads. Which Events are due
// is decided by an announcer; EventWriter writes them. What a federated Service is
// to have is decided by pkg/federation/plan; Services writes it, and publishes
// what the leader knows for the other agents to tell.
//
// Pure by file, without goroutine, lock, context or log: candidates.go, pace.go,
// status.go, conditions.go, reasons.go, events.go, announce.go, services_queue.go,
// services_owned.go, services_world.go and services_snapshot.go. The shell is
// election.go, term.go, writer.go, eventwriter.go and, of Services, services.go
// (what there is), services_mail.go and services_objects.go (what comes in),
// services_round.go (the loop), services_write.go and services_condition.go (what
// goes out) and services_publish.go.
//
// It may import pkg/model, pkg/index, pkg/agent, pkg/federation/plan,
// pkg/api/v1alpha1, pkg/api/client and pkg/admin/api.
package federation
