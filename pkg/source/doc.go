// Package source learns what is true in clusters from their API servers, and
// hands it on as facts of pkg/model. A Cluster is one API server: the local one
// or a linked one. A Mesh is the linked clusters, from the RemoteCluster objects
// and their Secrets in the local one.
//
// Nothing is cached here: an object becomes a fact as it is decoded, and all that
// stays is a few bytes a key. A linked cluster is not trusted: answers, objects
// and their parts are bounded, and it has its own goroutines, connections and
// rate limit, so that nothing of it can hold up anything else.
//
// A Cluster reads either identities (pods, Namespaces, nodes and policies) or
// Services and EndpointSlices, which only the leader needs: MeshConfig.Services and
// NewLocalServices.
//
// By file: wire.go and decode.go read protobuf; convert.go, service.go, slice.go,
// validate.go and netpol.go make facts (pure functions); item.go is what stands for an object on
// the way. codec.go, transport.go and dial.go are the connection. page.go and
// stream.go list and watch; feed.go, with feedstate.go, budget.go and gather.go,
// turns what they bring into batches for the Sink. cluster.go, session.go,
// probe.go, import.go and report.go run all that for one cluster. kubeconfig.go
// and reason.go say what is wrong with credentials and connections. mesh.go,
// local.go, remote.go, spec.go and registry.go are the linked clusters.
//
// It may import pkg/model, pkg/api/v1alpha1 and pkg/api/client.
package source
