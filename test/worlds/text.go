package worlds

import (
	"bytes"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// String is the World for people: of each cluster its configuration, then its
// objects as YAML, without what is the same in all of them.
func (w World) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# world of seed %d\n", w.Seed)
	for i := range w.Clusters {
		c := &w.Clusters[i]
		fmt.Fprintf(&b, "# cluster %s: labels %v, pods in %v, nodes in %v, mesh scope %v, scope override %s, own node egress by policy %v\n",
			c.Name, c.Labels, c.PodCIDRs, c.NodeCIDRs, c.Agent.Mesh, c.Agent.ScopeOverride, c.Agent.OwnNodeEgress)
		write(&b, "Namespace", c.Namespaces)
		write(&b, "Node", c.Nodes)
		write(&b, "Pod", c.Pods)
		write(&b, "NetworkPolicy", c.Policies)
	}
	return b.String()
}

func write[T any](b *strings.Builder, kind string, objects []T) {
	for _, o := range objects {
		fmt.Fprintf(b, "---\nkind: %s\n%s", kind, yamlOf(o))
	}
}

// yamlOf leaves out empty fields that the types always write, and of a node all
// but its labels and addresses.
func yamlOf(object any) []byte {
	if n, ok := object.(*corev1.Node); ok {
		object = map[string]any{"metadata": n.ObjectMeta, "status": map[string]any{"addresses": n.Status.Addresses}}
	}
	text, err := yaml.Marshal(object)
	if err != nil {
		return []byte("# " + err.Error() + "\n")
	}
	var lines [][]byte
	for line := range bytes.Lines(text) {
		switch string(bytes.TrimSpace(line)) {
		case "creationTimestamp: null", "status: {}", "spec: {}", "resources: {}", "loadBalancer: {}":
			continue
		}
		lines = append(lines, line)
	}
	return bytes.Join(lines, nil)
}
