package worlds

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Size bounds a random World.
type Size struct {
	// Clusters, and in each one Nodes, Namespaces, Pods and Policies: at most.
	// There are at least two clusters, and one of each of the others.
	Clusters, Nodes, Namespaces, Pods, Policies int
	// Prefix begins the names of namespaces.
	Prefix string
	// Odd lets in what happens to a real cluster only now and then and cannot be
	// asked for: a terminating pod, two pods with one address, an address that
	// is refused, a cluster without ranges or with nodes that have one family,
	// a policy that only older API servers accept.
	Odd bool
}

// Small is the size for many Worlds in little time.
func Small() Size {
	return Size{Clusters: 3, Nodes: 2, Namespaces: 3, Pods: 4, Policies: 4, Odd: true}
}

// Lab is the size for the lab: two clusters with two nodes each.
func Lab(prefix string) Size {
	return Size{Clusters: 2, Nodes: 2, Namespaces: 3, Pods: 5, Policies: 5, Prefix: prefix}
}

// Clusters, namespaces, labels and so on are few, so that they meet, and the same
// in all clusters.
func clusterNames() []string   { return []string{"west", "canada", "north"} }
func namespaceNames() []string { return []string{"x", "y", "z"} }
func accounts() []string       { return []string{"default", "default", "robot"} }
func portNames() []string      { return []string{"web", "dns", "alt"} }
func labelKeys() []string      { return []string{"app", "tier", "overland.example/app"} }
func labelValues() []string    { return []string{"a", "b", ""} }
func namespaceKeys() []string  { return []string{"team", "env"} }
func clusterKeys() []string    { return []string{"region", "env"} }
func nodeKeys() []string       { return []string{"app", "zone"} }

// Ports are the port numbers that anything in a World has to do with, outside of
// ranges.
func Ports() []uint16 { return []uint16{80, 81, 82, 8080} }

// maker makes one World.
type maker struct {
	*rand.Rand
	size Size
}

func newMaker(seed uint64, size Size) maker {
	return maker{rand.New(rand.NewPCG(seed, 0x0e11a2d)), size}
}

// Random makes a World. The same seed and size make the same one.
func Random(seed uint64, size Size) World {
	m := newMaker(seed, size)
	w := World{Seed: seed}
	for i := range 2 + m.IntN(max(size.Clusters-1, 1)) {
		w.Clusters = append(w.Clusters, m.cluster(i))
	}
	for i := range w.Clusters {
		c := &w.Clusters[i]
		for range 1 + m.IntN(size.Policies) {
			c.Policies = append(c.Policies, m.policy(w, c))
		}
	}
	return w
}

// oneIn is true once in n times.
func (m maker) oneIn(n int) bool { return m.IntN(n) == 0 }

func pick[T any](m maker, from []T) T { return from[m.IntN(len(from))] }

func (m maker) cluster(i int) Cluster {
	c := Cluster{Name: clusterNames()[i], Labels: m.labels(clusterKeys(), labelValues())}
	c.Agent = Agent{
		Mesh: m.oneIn(3), OwnNodeEgress: m.oneIn(4),
		ScopeOverride: pick(m, []string{"policy", "policy", "namespace", "none"}),
	}
	if !m.size.Odd || !m.oneIn(8) {
		c.PodCIDRs, c.NodeCIDRs = ranges(i)
	}
	for j := range 1 + m.IntN(m.size.Nodes) {
		c.Nodes = append(c.Nodes, m.node(i, j+1))
	}
	for _, name := range namespaceNames()[:1+m.IntN(m.size.Namespaces)] {
		c.Namespaces = append(c.Namespaces, m.namespace(m.size.Prefix+name))
	}
	for j := range 1 + m.IntN(m.size.Pods) {
		c.Pods = append(c.Pods, m.pod(&c, i, j+1))
	}
	if m.size.Odd && m.oneIn(20) {
		m.twoOnOneAddress(&c)
	}
	return c
}

// The addresses of cluster i: pods and nodes have neighbouring ones, so that
// small ranges part them.
func podAddr(i, j int, family byte) netip.Addr {
	if family == 4 {
		return netip.AddrFrom4([4]byte{10, byte(i + 1), 0, byte(j)})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 3: byte(i + 1), 15: byte(j)})
}

func nodeAddr(i, j int, family byte) netip.Addr {
	if family == 4 {
		return netip.AddrFrom4([4]byte{10, byte(i + 1), 255, byte(j)})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 3: byte(i + 1), 7: 0xff, 15: byte(j)})
}

// ranges are what cluster i's pods and nodes may claim. In a lab one range is for
// both; so Bind has its own.
func ranges(i int) (pods, nodes []netip.Prefix) {
	return []netip.Prefix{netip.PrefixFrom(podAddr(i, 0, 4), 17), netip.PrefixFrom(podAddr(i, 0, 6), 64)},
		[]netip.Prefix{netip.PrefixFrom(nodeAddr(i, 0, 4), 24), netip.PrefixFrom(nodeAddr(i, 0, 6), 64)}
}

func (m maker) node(i, j int) *corev1.Node {
	n := &corev1.Node{}
	n.Name, n.UID = "node-"+strconv.Itoa(j), m.uid()
	n.Labels = m.withReserved(m.labels(nodeKeys(), labelValues()))
	n.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeHostName, Address: n.Name},
		{Type: corev1.NodeExternalIP, Address: externalAddr(n.Name).String()},
		{Type: corev1.NodeInternalIP, Address: nodeAddr(i, j, 4).String()},
	}
	if !m.size.Odd || !m.oneIn(4) {
		n.Status.Addresses = append(n.Status.Addresses,
			corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: nodeAddr(i, j, 6).String()})
	}
	return n
}

func (m maker) namespace(name string) *corev1.Namespace {
	ns := &corev1.Namespace{}
	ns.Name, ns.UID = name, m.uid()
	ns.Labels = m.withReserved(m.labels(namespaceKeys(), labelValues()))
	ns.Labels[corev1.LabelMetadataName] = name
	if m.size.Odd && m.oneIn(30) {
		ns.Labels[corev1.LabelMetadataName] = m.size.Prefix + pick(m, namespaceNames()) // no real API server lets that pass
	}
	ns.Annotations = m.scope(5)
	return ns
}

func (m maker) uid() types.UID {
	return types.UID(fmt.Sprintf("%08x-0000-4000-8000-%012x", m.Uint32(), m.Uint64()>>16))
}

// labels has each key half of the time; values may be empty.
func (m maker) labels(keys, values []string) map[string]string {
	labels := map[string]string{}
	for _, k := range keys {
		if m.oneIn(2) {
			labels[k] = pick(m, values)
		}
	}
	return labels
}

// withReserved now and then adds labels that nobody may claim (1.4).
func (m maker) withReserved(labels map[string]string) map[string]string {
	if m.oneIn(12) {
		labels[pick(m, reservedKeys())] = pick(m, []string{"west", "canada", "a", "Node", "robot"})
	}
	return labels
}

// reservedKeys are the known ones, those that mean something elsewhere only, and
// one that means nothing.
func reservedKeys() []string {
	return []string{
		"overland.dev/cluster", "cluster.overland.dev/region", "overland.dev/kind", "overland.dev/service-account",
		"overland.dev/namespace", "namespace.overland.dev/team", "overland.dev/unheard-of",
		"federation.tigera.io/remoteClusterName", "federation.www.tigera.io/remoteClusterName",
	}
}

// scope is the annotation, once in n times.
func (m maker) scope(n int) map[string]string {
	if !m.oneIn(n) {
		return nil
	}
	return map[string]string{"overland.dev/peer-scope": pick(m, []string{"local", "mesh", "mesh", "Mesh", ""})}
}

func (m maker) pod(c *Cluster, i, j int) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: pick(m, c.Namespaces).Name, Name: "p" + strconv.Itoa(j), UID: m.uid(),
		Labels: m.withReserved(m.labels(labelKeys(), labelValues())), CreationTimestamp: metav1.Unix(int64(1700000000+j), 0),
	}}
	p.Spec.NodeName = pick(m, c.Nodes).Name
	p.Spec.ServiceAccountName = pick(m, accounts())
	p.Status.Phase = corev1.PodRunning
	m.containers(p)
	families := pick(m, [][]byte{{4, 6}, {4, 6}, {4}, {6, 4}})
	if m.size.Odd && m.oneIn(6) {
		families = []byte{6}
	}
	for _, f := range families {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: m.podIP(i, j, f).String()})
	}
	switch m.IntN(16) {
	case 0:
		p.Spec.HostNetwork = true
		for k := range p.Spec.Containers {
			p.Spec.Containers[k].Ports = nil // they would be the node's
		}
		p.Status.PodIPs = []corev1.PodIP{{IP: NodeAddrs(c.Node(p.Spec.NodeName))[0].String()}}
	case 1:
		p.Status.Phase = pick(m, []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed})
	case 2:
		if m.size.Odd {
			p.DeletionTimestamp = &metav1.Time{Time: p.CreationTimestamp.Time}
		}
	}
	return p
}

// podIP is the pod's own; now and then one that others refuse: of another
// cluster's ranges, of nobody's, or of those that no remote pod may have.
func (m maker) podIP(i, j int, family byte) netip.Addr {
	if m.size.Odd && m.oneIn(25) {
		switch {
		case m.oneIn(2):
			return podAddr((i+1)%len(clusterNames()), 100+10*i+j, family)
		case family == 4:
			return netip.AddrFrom4([4]byte{172, 16, byte(i), byte(j)})
		}
		return netip.AddrFrom16([16]byte{0: 0xfc, 14: byte(i), 15: byte(j)})
	}
	return podAddr(i, j, family)
}

// twoOnOneAddress gives the first pod's addresses to another one too.
func (m maker) twoOnOneAddress(c *Cluster) {
	if len(c.Pods) < 2 || c.Pods[0].Spec.HostNetwork || c.Pods[len(c.Pods)-1].Spec.HostNetwork {
		return
	}
	last := c.Pods[len(c.Pods)-1]
	last.Status.PodIPs = c.Pods[0].Status.PodIPs
}

// containers have named ports: the same name in two containers, with another
// number or protocol, unnamed ones, and ports of init containers, which count if
// these are restartable.
func (m maker) containers(p *corev1.Pod) {
	for i := range 1 + m.IntN(2) {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
			Name: "c" + strconv.Itoa(i), Image: "netprobe", Ports: m.containerPorts(),
		})
	}
	if m.size.Odd && m.oneIn(4) {
		init := corev1.Container{Name: "init", Image: "netprobe", Ports: m.containerPorts()}
		if m.oneIn(2) {
			always := corev1.ContainerRestartPolicyAlways
			init.RestartPolicy = &always
		}
		p.Spec.InitContainers = []corev1.Container{init}
	}
}

func (m maker) containerPorts() []corev1.ContainerPort {
	var ports []corev1.ContainerPort
	for _, name := range portNames() {
		switch m.IntN(5) {
		case 0, 1:
			ports = append(ports, corev1.ContainerPort{Name: name, Protocol: m.protocol(), ContainerPort: int32(pick(m, Ports()))})
		case 2:
			if m.oneIn(3) {
				ports = append(ports, corev1.ContainerPort{Protocol: m.protocol(), ContainerPort: int32(pick(m, Ports()))})
			}
		}
	}
	return ports
}

func (m maker) protocol() corev1.Protocol {
	return pick(m, []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP})
}
