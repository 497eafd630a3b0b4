package bench

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/labtest"
)

const (
	cniNode     = "west/node-1"
	cniTogether = 50
	// cniRounds are of one pod at a time, and cniBursts of many at once.
	cniRounds = 20
	cniBursts = 2
)

// BenchmarkCNIAdd is how long a runtime takes to connect pods, with our plugin in the
// list and, for the same pods right before, without it; what we add is the
// difference. A pod has a policy, and is known to the API server. "pod" is from the
// first plugin's start to the last one's end; "own" is our plugin alone, its process
// included, and "agent" what of it the agent takes.
func BenchmarkCNIAdd(b *testing.B) {
	lab := linked(b)
	n := lab.Cluster("west").NewNamespace(b, "cni")
	n.Apply("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: shut}\nspec: {podSelector: {}, policyTypes: [Ingress, Egress]}\n")
	lab.Stop(b, cniNode+"/kubelet") // nobody else connects them
	c := lab.NewCNI(b, cniNode)
	with := c.List("/etc/cni/net.d/05-overland.conflist")
	bare := c.List("/etc/cni/net.d/10-azure.conflist")
	pods := bound(b, n, cniTogether)
	time.Sleep(2 * time.Second) // the agent has heard of them
	once(b, func() {
		var plain, all, own []time.Duration
		before := cniAdds(b, lab)
		for i := range cniRounds {
			plain = append(plain, connect(b, c, bare, pods[:1], i).all...)
			got := connect(b, c, with, pods[:1], i)
			all, own = append(all, got.all...), append(own, got.own...)
		}
		reportAdds(b, "1", plain, all, own)
		after := cniAdds(b, lab)
		reportAgent(b, "1", before, after)
		plain, all, own = nil, nil, nil
		for i := range cniBursts {
			plain = append(plain, connect(b, c, bare, pods, i).all...)
			got := connect(b, c, with, pods, i)
			all, own = append(all, got.all...), append(own, got.own...)
		}
		reportAdds(b, strconv.Itoa(cniTogether), plain, all, own)
		reportAgent(b, strconv.Itoa(cniTogether), after, cniAdds(b, lab))
	})
}

func reportAdds(b *testing.B, pods string, plain, all, own []time.Duration) {
	b.Helper()
	for _, p := range []int{50, 99} {
		without, with, ours := ms(percentile(plain, p)), ms(percentile(all, p)), ms(percentile(own, p))
		for what, value := range map[string]float64{"without": without, "with": with, "added": with - without, "own": ours} {
			b.ReportMetric(value, fmt.Sprintf("ms-%s-%s-p%d", pods, what, p))
		}
	}
}

// bound makes pods that are bound to the node.
func bound(b *testing.B, n *labtest.Namespace, count int) []*labtest.Pod {
	b.Helper()
	var pods []*labtest.Pod
	for i := range count {
		made, err := n.Client.CoreV1().Pods(n.Name).Create(b.Context(), &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: podName(i)},
			Spec: v1.PodSpec{
				NodeName: strings.TrimPrefix(cniNode, "west/"), AutomountServiceAccountToken: new(bool),
				Containers: []v1.Container{{Name: "c", Image: "busybox"}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			b.Fatal(err)
		}
		pods = append(pods, &labtest.Pod{Cluster: n.Cluster, Namespace: n.Name, Name: made.Name, UID: string(made.UID)})
	}
	return pods
}

// took are the times of connections: of each whole list, and of our plugin.
type took struct{ all, own []time.Duration }

// connect connects pods at once, disconnects them, and waits until the node is at
// rest.
func connect(b *testing.B, c *labtest.CNI, list *libcni.NetworkConfigList, pods []*labtest.Pod, round int) took {
	b.Helper()
	var rts []*libcni.RuntimeConf
	for i, p := range pods {
		rts = append(rts, c.Attachment(fmt.Sprintf("%s-%d-%d-%d", p.Name, len(pods), len(list.Plugins), round*len(pods)+i), p))
	}
	times, own := make([]time.Duration, len(pods)), make([]time.Duration, len(pods))
	start := make(chan struct{})
	var adding sync.WaitGroup
	for i, rt := range rts {
		adding.Go(func() {
			<-start
			began := time.Now()
			_, plugins, err := c.TimedAdd(context.WithoutCancel(b.Context()), list, rt)
			times[i], own[i] = time.Since(began), plugins["overland-cni"]
			if err != nil {
				b.Error(err)
			}
		})
	}
	close(start)
	adding.Wait()
	var deleting sync.WaitGroup
	for _, rt := range rts {
		deleting.Go(func() {
			if err := c.Del(context.WithoutCancel(b.Context()), list, rt); err != nil {
				b.Error(err)
			}
		})
	}
	deleting.Wait()
	c.Forget(rts...)
	time.Sleep(400 * time.Millisecond) // the links go, and the rules with them
	return took{times, own}
}

// histogram are the cumulated counts of the agent's histogram of ADD, by bound in
// seconds, and the sum.
type histogram struct {
	bounds []float64
	counts []float64
	sum    float64
}

func cniAdds(b *testing.B, lab *labtest.Lab) histogram {
	b.Helper()
	text, err := lab.AgentMetrics(b.Context(), cniNode)
	if err != nil {
		b.Fatal(err)
	}
	var h histogram
	line := regexp.MustCompile(`(?m)^overland_cni_request_duration_seconds_(bucket|sum)\{(.*command="add".*)\} (\S+)$`)
	for _, f := range line.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(f[2], `result="ok"`) {
			continue
		}
		value, err := strconv.ParseFloat(f[3], 64)
		if err != nil {
			b.Fatal(err)
		}
		if f[1] == "sum" {
			h.sum = value
			continue
		}
		le := regexp.MustCompile(`le="([^"]+)"`).FindStringSubmatch(f[2])
		limit, err := strconv.ParseFloat(le[1], 64) // +Inf too
		if err != nil {
			b.Fatal(err)
		}
		h.bounds, h.counts = append(h.bounds, limit), append(h.counts, value)
	}
	return h
}

// reportAgent reports the mean of the agent's part, and the bound of the bucket in
// which its 99th percentile is.
func reportAgent(b *testing.B, pods string, before, after histogram) {
	b.Helper()
	n := len(after.counts)
	if n == 0 {
		b.Fatal("the agent has no histogram of ADD")
	}
	if len(before.counts) == 0 {
		before.counts = make([]float64, n)
	}
	count := after.counts[n-1] - before.counts[n-1]
	b.ReportMetric(1000*(after.sum-before.sum)/count, "ms-"+pods+"-agent-mean")
	for i := range n {
		if after.counts[i]-before.counts[i] >= 0.99*count {
			b.ReportMetric(1000*after.bounds[i], "ms-"+pods+"-agent-p99-below")
			return
		}
	}
}
