package bench

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
	"github.com/overland-net/overland/pkg/selector"
)

// The worlds of the index's benchmarks: west is the local cluster, and canada a
// remote one.
const (
	localCluster  = "west"
	remoteCluster = "canada"
	thisNode      = "this-node"
	markers       = 30
)

func marker(i int) string { return fmt.Sprintf("example.com/marker-%d", i%markers) }

// numberedAddress is the same for no two numbers below 2^24.
func numberedAddress(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24+uint32(i))
	return netip.AddrFrom4(b)
}

func numberedUID(i int) model.UID {
	var u model.UID
	binary.BigEndian.PutUint64(u[8:], uint64(i)+1)
	return u
}

// names keeps one copy of what many objects have, as a source of facts does.
type names map[string]string

func (n names) one(s string) string {
	if known, ok := n[s]; ok {
		return known
	}
	n[s] = s
	return s
}

// numberedPod is pod i: of this node and the local cluster, or of the remote
// one.
func (n names) numberedPod(i int, local bool, namespace string, labels map[string]string) *model.Endpoint {
	cluster, node := remoteCluster, fmt.Sprintf("node-%d", i%1000)
	if local {
		cluster, node = localCluster, thisNode
	}
	return &model.Endpoint{
		Key: model.PodKey(cluster, n.one(namespace), fmt.Sprintf("workload-%d", i)), UID: numberedUID(i),
		Labels: model.NewLabels(labels), ServiceAccount: "default", Node: n.one(node),
		Addresses: []netip.Addr{numberedAddress(i)}, Created: 1_700_000_000 + int64(i),
	}
}

// oneInN are five labels that one in N endpoints have the same of, and one of
// the marker labels.
func oneInN(i int) map[string]string {
	labels := map[string]string{marker(i): "true"}
	for _, n := range []int{10, 11, 20, 30, 40} {
		labels[fmt.Sprintf("one-in-%d", n)] = fmt.Sprintf("value-%d", i%n)
	}
	return labels
}

func clusters() []model.Fact {
	return []model.Fact{
		&model.Cluster{Name: localCluster, Local: true, InContact: true, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12")}},
		&model.Cluster{Name: remoteCluster, InContact: true, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
	}
}

func namespace(cluster, name string, labels map[string]string) *model.Namespace {
	labels[model.KeyNamespaceName] = name
	return &model.Namespace{Key: model.NamespaceKey(cluster, name), Labels: model.NewLabels(labels)}
}

func exists(key string) *model.LabelSelector {
	return &model.LabelSelector{{Key: key, Operator: model.Exists}}
}

// usage is what something took.
type usage struct {
	took   time.Duration
	cpu    time.Duration // of all threads, the garbage collector's too
	allocs uint64
	heap   float64 // MB, alive when it was done, beyond what was alive before
	total  float64 // MB, alive when it was done
}

// cpuTime is what this process has used: where others run as well, it says more
// than the clock.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func memory() runtime.MemStats {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m
}

// use measures f. What it makes, and the facts it makes it of, must be alive
// when it returns and be kept by the caller until after use.
func use(f func()) usage {
	before := memory()
	began, cpu := time.Now(), cpuTime()
	f()
	u := usage{took: time.Since(began), cpu: cpuTime() - cpu}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.allocs = m.Mallocs - before.Mallocs
	m = memory()
	u.heap = (float64(m.HeapAlloc) - float64(before.HeapAlloc)) / 1e6
	u.total = float64(m.HeapAlloc) / 1e6
	return u
}

func (u usage) report(b *testing.B, endpoints int) {
	b.ReportMetric(u.took.Seconds(), "s/compute")
	b.ReportMetric(u.cpu.Seconds(), "s/cpu")
	b.ReportMetric(u.took.Seconds()*1e6/float64(endpoints), "µs/endpoint")
	b.ReportMetric(u.heap, "MB/heap")
	b.ReportMetric(u.total, "MB/heap-with-facts")
	b.ReportMetric(float64(u.allocs), "allocs")
}

// node is what an agent computes with.
type node struct {
	index    *index.Index
	policies *policy.Set
	view     index.View
}

func newNode() *node {
	return &node{index: index.New(), policies: policy.NewSet(policy.Config{Cluster: localCluster, Mesh: true}, thisNode)}
}

// setAll is that all these facts are there. An agent has them in its index, its
// policies and nowhere else: no list of changes is counted as theirs.
func setAll(facts []model.Fact) iter.Seq[model.Change] {
	return func(yield func(model.Change) bool) {
		for _, f := range facts {
			if !yield(model.Set(f)) {
				return
			}
		}
	}
}

func (n *node) apply(changes iter.Seq[model.Change]) {
	for c := range changes {
		n.index.Apply(c)
		n.policies.Apply(c)
	}
	track, untrack, trackPorts, untrackPorts := n.policies.Update()
	for _, s := range track {
		n.index.Track(s)
	}
	for _, s := range untrack {
		n.index.Untrack(s)
	}
	for _, q := range trackPorts {
		n.index.TrackPorts(q)
	}
	for _, q := range untrackPorts {
		n.index.UntrackPorts(q)
	}
	n.view = n.index.View()
}

// naive is the baseline: every endpoint is evaluated on every selector of every
// policy, and members are Go maps. It knows nothing of who owns an address.
type naive struct {
	selectors []*selector.Matcher
	members   []map[netip.Addr]struct{}
}

func newNaive(selectors []selector.Selector) *naive {
	n := &naive{}
	for _, s := range selectors {
		n.selectors = append(n.selectors, s.Compile())
		n.members = append(n.members, map[netip.Addr]struct{}{})
	}
	return n
}

func (n *naive) set(e *model.Endpoint) {
	subject := &selector.Subject{Labels: e.Labels, Kind: e.Key.Kind, ClusterName: e.Key.Cluster, NamespaceName: e.Key.Namespace}
	for i, s := range n.selectors {
		for _, a := range e.Addresses {
			if s.Matches(subject) {
				n.members[i][a] = struct{}{}
			} else {
				delete(n.members[i], a)
			}
		}
	}
}
