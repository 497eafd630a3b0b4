package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/overland-net/overland/test/lab/labtest"
)

// sameNamespace makes a namespace of the same name in both clusters of the lab.
func sameNamespace(b *testing.B, lab *labtest.Lab, prefix string) (west, canada *labtest.Namespace) {
	b.Helper()
	west = lab.Cluster("west").NewNamespace(b, prefix)
	canada = lab.Cluster("canada").In(b, west.Name)
	canada.Apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + west.Name + "}\n")
	b.Cleanup(func() {
		err := canada.Client.CoreV1().Namespaces().Delete(context.WithoutCancel(b.Context()), west.Name, metav1.DeleteOptions{})
		if err != nil {
			b.Error(err)
		}
	})
	return west, canada
}

// BenchmarkFederationLatency is the time from the answer of canada's API server to
// the writer of an EndpointSlice, in which an endpoint turned ready or not, until
// the EndpointSlice of the federated Service in west says the same to a watch; and
// until a plain watch of canada's API server shows the change, which is the least
// possible.
func BenchmarkFederationLatency(b *testing.B) {
	lab := linked(b)
	west, canada := sameNamespace(b, lab, "federated")
	// Of one Service, changes that come faster than this are written together.
	const changes, apart = 60, 400 * time.Millisecond
	canada.Apply("apiVersion: v1\nkind: Service\nmetadata: {name: web, labels: {federation: \"yes\"}}\nspec: {ports: [{name: web, port: 80}]}\n")
	west.Apply("apiVersion: v1\nkind: Service\nmetadata: {name: fed, annotations: {federation.overland.dev/serviceSelector: \"federation == 'yes'\"}}\n" +
		"spec: {ports: [{name: web, port: 80}]}\n")
	address(b, canada, 0)
	slice := theirSlice(b, canada, podAddress(0))
	events := watchSlices(b, west, "kubernetes.io/service-name=fed")
	untilReady(b, events, true)
	remote := watchSlices(b, canada, "kubernetes.io/service-name=web")
	var written, watched []time.Duration
	bytes := 0
	once(b, func() {
		for i := range changes {
			time.Sleep(apart)
			ready := i%2 != 0
			slice.Endpoints[0].Conditions.Ready = &ready
			now, err := canada.Client.DiscoveryV1().EndpointSlices(canada.Name).Update(b.Context(), slice, metav1.UpdateOptions{})
			if err != nil {
				b.Fatal(err)
			}
			began := time.Now()
			slice = now
			at := make(chan time.Time, 1)
			go func() {
				untilReady(b, remote, ready)
				at <- time.Now()
			}()
			got := untilReady(b, events, ready)
			written = append(written, time.Since(began))
			watched = append(watched, max(0, (<-at).Sub(began)))
			text, err := json.Marshal(got)
			if err != nil {
				b.Fatal(err)
			}
			bytes = len(text)
		}
	})
	report(b, written, "ms-remote-to-local-slice")
	b.ReportMetric(ms(percentile(watched, 50)), "ms-plain-watch-p50")
	b.ReportMetric(float64(bytes), "B-the-slice")
}

func podAddress(i int) string { return fmt.Sprintf("10.2.2.%d", 200+i) }

// theirSlice is an EndpointSlice with one ready endpoint.
func theirSlice(b *testing.B, n *labtest.Namespace, address string) *discoveryv1.EndpointSlice {
	b.Helper()
	name, port, ready := "web", int32(8080), true
	slice, err := n.Client.DiscoveryV1().EndpointSlices(n.Name).Create(b.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			TargetRef: &v1.ObjectReference{Kind: "Pod", Namespace: n.Name, Name: podName(0)},
		}},
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}, metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return slice
}

func watchSlices(b *testing.B, n *labtest.Namespace, selector string) watch.Interface {
	b.Helper()
	events, err := n.Client.DiscoveryV1().EndpointSlices(n.Name).Watch(b.Context(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(events.Stop)
	return events
}

// untilReady waits until an endpoint of a watched slice is ready, or is not.
func untilReady(b *testing.B, events watch.Interface, ready bool) *discoveryv1.EndpointSlice {
	limit := time.After(time.Minute)
	for {
		select {
		case e, ok := <-events.ResultChan():
			if !ok {
				b.Error("the watch has ended")
				return nil
			}
			slice, isSlice := e.Object.(*discoveryv1.EndpointSlice)
			if isSlice && len(slice.Endpoints) == 1 && slice.Endpoints[0].Conditions.Ready != nil && *slice.Endpoints[0].Conditions.Ready == ready {
				return slice
			}
		case <-limit:
			b.Errorf("no slice says that its endpoint is ready: %v", ready)
			return nil
		}
	}
}
