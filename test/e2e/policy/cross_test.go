package policy

import (
	"testing"
)

// crossCase is policies of both clusters and what they let pass between them.
type crossCase struct{ name, west, canada, probes string }

const mesh = `annotations: {overland.dev/peer-scope: mesh}`

// fromCluster is an ingress rule for pods of any namespace that a requirement on
// clusters lets in.
func fromCluster(requirement string) string {
	return "{from: [{namespaceSelector: {matchExpressions: [" + requirement + "]}}]}"
}

func clusterKeyCases() []crossCase {
	return []crossCase{
		{"a cluster by name_2.3", server("{from: [{namespaceSelector: {matchLabels: {overland.dev/cluster: canada}}, podSelector: {matchLabels: {app: client}}}]}"), "", `
			pass canada:a/client a/server tcp/80 udp/80 sctp/80 icmp
			pass canada:b/client a/server tcp/80
			deny canada:a/server a/server tcp/80
			deny a/client a/server tcp/80
			deny b/client a/server tcp/80
			deny canada:node-1 a/server tcp/80`},
		{"In", server(fromCluster("{key: overland.dev/cluster, operator: In, values: [canada, elsewhere]}")), "", `
			pass canada:a/client a/server tcp/80
			deny a/client a/server tcp/80`},
		{"NotIn", server(fromCluster("{key: overland.dev/cluster, operator: NotIn, values: [canada, elsewhere]}")), "", `
			pass a/client a/server tcp/80
			deny canada:a/client a/server tcp/80
			deny outside a/server tcp/80`},
		{"Exists", server(fromCluster("{key: overland.dev/cluster, operator: Exists}")), "", `
			pass a/client a/server tcp/80
			pass b/client a/server tcp/80
			pass canada:a/client a/server tcp/80
			deny outside a/server tcp/80
			deny canada:node-1 a/server tcp/80`},
		{"DoesNotExist", server(fromCluster("{key: overland.dev/cluster, operator: DoesNotExist}")), "", `
			deny a/client a/server tcp/80
			deny canada:a/client a/server tcp/80
			deny outside a/server tcp/80`},
		{"labels of clusters_2.2", server(fromCluster("{key: cluster.overland.dev/region, operator: In, values: [canada]}")), "", `
			pass canada:a/client a/server tcp/80
			deny a/client a/server tcp/80`},
		{"a label that no cluster has_2.2", server(fromCluster("{key: cluster.overland.dev/tier, operator: DoesNotExist}, {key: cluster.overland.dev/region, operator: NotIn, values: [west]}")), "", `
			pass canada:b/client a/server tcp/80
			deny a/client a/server tcp/80`},
		{"a cluster and a namespace_2.4", server("{from: [{namespaceSelector: {matchLabels: {overland.dev/cluster: canada, team: b}}}]}"), "", `
			pass canada:b/client a/server tcp/80
			deny canada:a/client a/server tcp/80
			deny b/client a/server tcp/80`},
		{"a cluster in the pod selector means the same namespace_2.4", server("{from: [{podSelector: {matchLabels: {overland.dev/cluster: canada}}}]}"), "", `
			pass canada:a/client a/server tcp/80
			pass canada:a/server a/server tcp/80
			deny canada:b/client a/server tcp/80
			deny a/client a/server tcp/80`},
		{"a service account of a cluster_2.2", server("{from: [{namespaceSelector: {}, podSelector: {matchLabels: {overland.dev/service-account: robot, overland.dev/cluster: canada}}}]}"), "", `
			pass canada:b/client a/server tcp/80
			deny canada:a/client a/server tcp/80
			deny b/client a/server tcp/80`},
		{"nodes of a cluster_2.6", server("{from: [{podSelector: {matchLabels: {overland.dev/kind: Node, overland.dev/cluster: canada, kubernetes.io/hostname: node-1}}}]}"), "", `
			pass canada:node-1 a/server tcp/80
			deny canada:node-2 a/server tcp/80
			deny node-2 a/server tcp/80
			deny canada:a/client a/server tcp/80`},
		{
			"a policy for one cluster only_2.5", npol("own", "{podSelector: {matchLabels: {app: server, overland.dev/cluster: canada}}}") +
				npol("sentinel", "{podSelector: {matchLabels: {app: other, overland.dev/cluster: west}}}"),
			npol("own", "{podSelector: {matchLabels: {app: server, overland.dev/cluster: canada}}}"), `
			pass a/client a/server tcp/80
			pass canada:a/client a/server tcp/80
			deny a/client a/other tcp/81
			deny a/client canada:a/server tcp/82
			deny canada:a/client canada:a/server tcp/82`,
		},
	}
}

func scopeCases() []crossCase {
	return []crossCase{
		{"peers are local unless they say otherwise_2.3", server("{from: [{namespaceSelector: {}}]}") + client("{to: [{namespaceSelector: {}}]}"), "", `
			pass a/client a/server tcp/80
			pass b/client a/server tcp/80
			deny canada:a/client a/server tcp/80
			pass a/client b/client tcp/80
			deny a/client canada:a/client tcp/80`},
		{"a policy of the mesh_2.3", npol("server", "{podSelector: {matchLabels: {app: server}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}", mesh), "", `
			pass a/client a/server tcp/80
			pass canada:a/client a/server tcp/80
			deny canada:b/client a/server tcp/80
			deny canada:a/server a/server tcp/80
			deny b/client a/server tcp/80`},
		{"a named port of the mesh_2.9", npol("client", "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{ports: [{port: web}]}]}", mesh), "", `
			pass a/client a/server tcp/80
			pass a/client canada:a/server tcp/82
			deny a/client canada:a/server tcp/80
			deny a/client a/server tcp/82`},
		{"a scope that is none is local_2.3", npol("server", "{podSelector: {matchLabels: {app: server}}, ingress: [{from: [{podSelector: {}}]}]}", "annotations: {overland.dev/peer-scope: Mesh}"), "", `
			pass a/client a/server tcp/80
			deny canada:a/client a/server tcp/80`},
	}
}

func sideCases() []crossCase {
	return []crossCase{
		{"the source's side", client("{to: [{podSelector: {matchLabels: {overland.dev/cluster: canada, app: server}}}], ports: [{port: web}, {port: 80, protocol: UDP}, {port: 80, protocol: SCTP}]}"), "", `
			pass a/client canada:a/server tcp/82 udp/80 sctp/80
			pass a/client2 canada:a/server tcp/82 udp/80 sctp/80
			deny a/client canada:a/server tcp/80 udp/81 sctp/81
			deny a/client canada:a/client tcp/82
			deny a/client a/server tcp/80
			pass canada:a/server a/client tcp/80 udp/80 sctp/80`},
		{"nodes, on the source's side_2.6", client("{to: [{podSelector: {matchLabels: {overland.dev/kind: Node, overland.dev/cluster: canada}}}]}"), "", `
			pass a/client canada:node-1 tcp/18090 icmp
			deny a/client node-2 tcp/18090
			deny a/client canada:a/client tcp/80`},
		{
			"both sides",
			client("{to: [{podSelector: {matchLabels: {overland.dev/cluster: canada}}}], ports: [{port: 80}, {port: 81}]}"),
			npol("server", "{podSelector: {matchLabels: {app: server}}, ingress: [{from: [{podSelector: {matchLabels: {overland.dev/cluster: west}}}], ports: [{port: 81}, {port: 82}]}]}"), `
			pass a/client canada:a/server tcp/81
			deny a/client canada:a/server tcp/80 tcp/82
			pass a/other canada:a/server tcp/82
			deny a/other canada:a/server tcp/80
			deny b/client canada:a/server tcp/81
			deny canada:a/client canada:a/server tcp/81`,
		},
		{
			"a Service with pods of the local cluster only_2.9",
			client("{to: [{podSelector: {matchLabels: {overland.dev/cluster: canada}}}]}"), "", `
			deny a/client svc/server tcp/8000
			pass a/client canada:a/server tcp/82
			pass canada:a/client canada:svc/server tcp/8000`,
		},
	}
}

func TestPolicyMeansClusters(t *testing.T) {
	s := onStage(t)
	for _, tt := range append(append(clusterKeyCases(), scopeCases()...), sideCases()...) {
		t.Run(tt.name, func(t *testing.T) {
			s := s.with(t)
			s.apply(west(), tt.west)
			if tt.canada != "" {
				s.apply(canada(), tt.canada)
			}
			s.holds(tt.probes)
		})
	}
}

func TestPolicyTakesItsScopeFromTheNamespace_2_3(t *testing.T) {
	s := onStage(t)
	annotate := func(value string) {
		t.Helper()
		if out := west().Kubectl(t, "annotate", "--overwrite", "namespace", "truth-a", "overland.dev/peer-scope"+value); out.Code != 0 {
			t.Fatalf("kubectl annotate: %s", out)
		}
	}
	t.Cleanup(func() { annotate("-") })
	s.apply(west(), server("{from: [{podSelector: {matchLabels: {app: client}}}]}")+
		npol("other", "{podSelector: {matchLabels: {app: other}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}",
			"annotations: {overland.dev/peer-scope: local}"))
	s.holds(`
		pass a/client a/server tcp/80
		deny canada:a/client a/server tcp/80`)
	annotate("=mesh")
	s.holds(`
		pass a/client a/server tcp/80
		pass canada:a/client a/server tcp/80
		deny canada:b/client a/server tcp/80
		pass a/client a/other tcp/81
		deny canada:a/client a/other tcp/81`)
	annotate("=local")
	s.holds(`
		pass a/client a/server tcp/80
		deny canada:a/client a/server tcp/80`)
}

func TestPolicyForgetsAClusterThatIsUnlinked(t *testing.T) {
	s := onStage(t)
	s.apply(west(), server("{from: [{podSelector: {matchLabels: {overland.dev/cluster: canada}}}, {podSelector: {matchLabels: {app: client2}}}]}")+
		client("{to: [{podSelector: {matchExpressions: [{key: overland.dev/cluster, operator: Exists}]}}]}"))
	linked := `
		pass canada:a/client a/server tcp/80 udp/80
		deny a/other a/server tcp/80
		pass a/client canada:a/server tcp/80 udp/80
		pass a/client a/other tcp/81
		deny a/client b/client tcp/80`
	s.holds(linked)
	t.Cleanup(func() { link(t, "connect") })
	link(t, "disconnect")
	s.holds(`
		deny canada:a/client a/server tcp/80 udp/80
		deny a/other a/server tcp/80
		deny a/client canada:a/server tcp/80 udp/80
		pass a/client a/other tcp/81
		deny a/client b/client tcp/80`)
	link(t, "connect")
	s.holds(linked)
}

// link runs `overland connect` or disconnect for the two clusters.
func link(t *testing.T, what string) {
	t.Helper()
	if out := lab.OverlandBeside(t, "west", what, "west", "canada"); out.Code != 0 {
		t.Fatalf("overland %s: %s", what, out)
	}
}
