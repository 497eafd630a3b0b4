package source

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/overland-net/overland/pkg/model"
)

// protobufOf is an answer in Kubernetes' protobuf format.
func protobufOf(o kruntime.Object) []byte {
	info, _ := kruntime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), kruntime.ContentTypeProtobuf)
	return versioned{info.Serializer, scheme.Scheme}.bytes(o)
}

func podsFrom(n, count int) []corev1.Pod {
	var pods []corev1.Pod
	for i := n; i < n+count; i++ {
		pods = append(pods, *pod("demo", fmt.Sprintf("p-%d", i), fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255), map[string]string{"app": fmt.Sprint("a", i)}))
	}
	return pods
}

// endlessPods answers lists and streamed lists of pods without an end.
func endlessPods(pages, events *atomic.Int64, streamed bool) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/api/v1/pods" {
			return false
		}
		if r.URL.Query().Get("watch") == "" {
			n := int(pages.Add(1))
			list := &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "1", Continue: fmt.Sprint(n)}, Items: podsFrom(n*pageSize, pageSize)}
			w.Header().Set("Content-Type", kruntime.ContentTypeProtobuf)
			_, _ = w.Write(protobufOf(list))
			return true
		}
		if !streamed {
			return false
		}
		w.Header().Set("Content-Type", kruntime.ContentTypeProtobuf)
		send := eventsTo(w)
		for send("ADDED", &podsFrom(int(events.Add(1)), 1)[0]) {
		}
		return true
	}
}

// eventsTo sends events of a watch; false: nobody listens.
func eventsTo(w http.ResponseWriter) func(kind string, o kruntime.Object) bool {
	info, _ := kruntime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), kruntime.ContentTypeProtobuf)
	out := streaming.NewEncoder(info.StreamSerializer.Framer.NewFrameWriter(w), info.StreamSerializer.Serializer)
	return func(kind string, o kruntime.Object) bool {
		err := out.Encode(&metav1.WatchEvent{Type: kind, Object: kruntime.RawExtension{Raw: protobufOf(o)}})
		w.(http.Flusher).Flush()
		return err == nil
	}
}

func TestEndlessListStopsAtTheLimit_1_2(t *testing.T) {
	for _, streamed := range []bool{true, false} {
		t.Run(fmt.Sprintf("streamed=%v", streamed), func(t *testing.T) {
			var pages, events atomic.Int64
			a, s := newFakeAPI(t), newFakeSink()
			a.streamed, a.intercept = streamed, endlessPods(&pages, &events, streamed)
			cfg := remoteConfig(a)
			cfg.limit, cfg.timing.RetryTooLarge = 2000, 1<<40
			start(t, cfg, s)
			st := s.waitReason(t, "canada", model.ReasonTooLarge)
			if st.InContact() || !strings.Contains(st.Message, "spec.limits.endpoints") {
				t.Errorf("status is %+v", st)
			}
			if n := len(s.of(model.KindPod)); n != 0 {
				t.Errorf("%d pods are taken", n)
			}
			if n := pages.Load(); n > 5 {
				t.Errorf("%d pages were read for a limit of 4 of them", n)
			}
		})
	}
}

func TestEndlessPagesOfNothingEnd(t *testing.T) {
	var pages atomic.Int64
	a, s := newFakeAPI(t), newFakeSink()
	a.streamed = false
	a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/api/v1/pods" {
			return false
		}
		pages.Add(1)
		w.Header().Set("Content-Type", kruntime.ContentTypeProtobuf)
		_, _ = w.Write(protobufOf(&corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "1", Continue: "again"}}))
		return true
	}
	cfg := remoteConfig(a)
	f := feedFor(t, cfg, s, model.KindPod)
	f.budget.limit.objects = 1
	// Without the rate limit, which would make it last for minutes.
	_, err := f.pages(t.Context(), 1<<20)
	if err == nil || !strings.Contains(err.Error(), "does not end") {
		t.Errorf("error is %v after %d pages", err, pages.Load())
	}
}

// feedFor is a feed that is not run by anything.
func feedFor(t *testing.T, cfg *config, s Sink, kind model.Kind) *feed {
	t.Helper()
	cfg.timing = cfg.timing.withDefaults()
	c := newCluster(cfg, s, newReporter(cfg.name, cfg.timing, s))
	session, err := newSession(c)
	if err != nil {
		t.Fatal(err)
	}
	session.addFeeds()
	for _, f := range session.feeds {
		if f.kind == kind {
			f.client = unlimited(t, cfg, kind)
			return f
		}
	}
	t.Fatal("no such feed")
	return nil
}

func TestAnswersThatAreNotWhatWasAskedForAreRefused_1_6(t *testing.T) {
	many := &corev1.PodList{Items: podsFrom(0, pageSize+1)}
	for name, tt := range map[string]struct {
		mediaType string
		body      []byte
	}{
		"more than asked for":           {kruntime.ContentTypeProtobuf, protobufOf(many)},
		"JSON":                          {kruntime.ContentTypeJSON, []byte(`{"kind":"PodList","apiVersion":"v1","items":[{},{},{}]}`)},
		"another kind":                  {kruntime.ContentTypeProtobuf, protobufOf(&corev1.SecretList{Items: make([]corev1.Secret, 3)})},
		"a kind that is read elsewhere": {kruntime.ContentTypeProtobuf, protobufOf(&corev1.NodeList{Items: []corev1.Node{*node("n", "10.0.0.1")}})},
		"one object":                    {kruntime.ContentTypeProtobuf, protobufOf(pod("a", "b", "10.0.0.1", nil))},
		"broken":                        {kruntime.ContentTypeProtobuf, append([]byte("k8s\x00"), bytes.Repeat([]byte{0xff}, 100)...)},
		"nothing":                       {kruntime.ContentTypeProtobuf, nil},
	} {
		t.Run(name, func(t *testing.T) {
			a, s := newFakeAPI(t), newFakeSink()
			a.streamed = false
			a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/api/v1/pods" {
					return false
				}
				w.Header().Set("Content-Type", tt.mediaType)
				_, _ = w.Write(tt.body)
				return true
			}
			start(t, remoteConfig(a), s)
			s.waitReason(t, "canada", model.ReasonServerError)
			if n := len(s.of(model.KindPod)) + len(s.of(model.KindNode)); n != 0 {
				t.Errorf("%d pods or nodes are taken", n)
			}
		})
	}
}

func lengthDelimited(tag byte, body []byte) []byte {
	return append(binary.AppendUvarint([]byte{tag}, uint64(len(body))), body...)
}

// TestSmallAnswersCannotFillMemory: a megabyte of empty containers would be
// hundreds of megabytes in the generated types.
func TestSmallAnswersCannotFillMemory(t *testing.T) {
	containers := bytes.Repeat([]byte{0x12, 0x00}, 1<<19)
	podMessage := lengthDelimited(0x12, containers)
	list := lengthDelimited(0x12, podMessage)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := converterOf(model.KindPod).list(list); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > uint64(len(list)) {
		t.Errorf("%d bytes are allocated for an answer of %d", got, len(list))
	}
}

func TestBodiesAreBounded(t *testing.T) {
	for _, tt := range []struct {
		left, size int
		want       error
	}{{10, 9, nil}, {10, 10, nil}, {10, 11, errTooLong}, {-1, 1 << 20, nil}} {
		b := &boundedBody{ReadCloser: io.NopCloser(bytes.NewReader(make([]byte, tt.size))), left: int64(tt.left), broke: func(error) {}}
		data, err := io.ReadAll(b)
		if err != tt.want || tt.want == nil && len(data) != tt.size {
			t.Errorf("bound %d, size %d: %d bytes, %v", tt.left, tt.size, len(data), err)
		}
	}
}

func TestPagesTooLongAreAskedForInSmallerOnes(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	a.streamed = false
	for _, p := range podsFrom(0, 120) {
		a.put(&p)
	}
	a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("limit") != fmt.Sprint(pageSize) || r.URL.Path != "/api/v1/pods" {
			return false
		}
		w.Header().Set("Content-Type", kruntime.ContentTypeProtobuf)
		_, _ = w.Write(make([]byte, maxListBody+1))
		return true
	}
	start(t, remoteConfig(a), s)
	waitTruth(t, a, s, "canada", nil)
}

func TestFloodOfEventsOfOnePodIsHeldBack_1_6(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	cfg := remoteConfig(a)
	cfg.timing = cfg.timing.withDefaults()
	session, err := newSession(newCluster(cfg, s, newReporter("canada", cfg.timing, s)))
	if err != nil {
		t.Fatal(err)
	}
	if session.events == nil || session.events.QPS() > 50_000 {
		t.Error("events of a remote cluster are not limited")
	}
	local := NewLocal("west", "node-1", a.config(), s)
	if session, err = newSession(local); err != nil || session.events != nil {
		t.Errorf("events of the local cluster are limited, or %v", err)
	}
}

// TestAnImportListTakesNothingElse_1_2: a server that answers with more than was
// asked for is lying.
func TestAnImportListTakesNothingElse_1_2(t *testing.T) {
	for _, streamed := range []bool{true, false} {
		t.Run(fmt.Sprintf("streamed=%v", streamed), func(t *testing.T) {
			a, s := newFakeAPI(t), newFakeSink()
			a.streamed = streamed
			a.put(pod("one", "a", "10.1.0.1", nil), pod("two", "b", "10.1.0.2", nil), namespace("one", "1", nil), namespace("two", "2", nil))
			a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/api/v1/namespaces/one/pods" {
					r.URL.Path = "/api/v1/pods"
				}
				query := r.URL.Query()
				query.Del("fieldSelector")
				r.URL.RawQuery = query.Encode()
				return false
			}
			cfg := remoteConfig(a)
			cfg.namespaces = []string{"one"}
			start(t, cfg, s)
			s.waitReason(t, "canada", model.ReasonInSync)
			a.put(pod("two", "later", "10.1.0.3", nil), pod("one", "last", "10.1.0.4", nil))
			only := func(k model.Key) bool {
				return k.Namespace == "one" || k.Kind == model.KindNamespace && k.Name == "one"
			}
			waitTruth(t, a, s, "canada", only)
		})
	}
}

// TestStreamedListOfChangesStopsAtTheLimit_1_2: the reflector keeps what is said
// to have been modified as well as what was added.
func TestStreamedListOfChangesStopsAtTheLimit_1_2(t *testing.T) {
	var events atomic.Int64
	a, s := newFakeAPI(t), newFakeSink()
	a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/api/v1/pods" || r.URL.Query().Get("sendInitialEvents") == "" {
			return false
		}
		info, _ := kruntime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), kruntime.ContentTypeProtobuf)
		w.Header().Set("Content-Type", kruntime.ContentTypeProtobuf)
		out := streaming.NewEncoder(info.StreamSerializer.Framer.NewFrameWriter(w), info.StreamSerializer.Serializer)
		for events.Load() < 50_000 {
			p := podsFrom(int(events.Add(1)), 1)[0]
			p.Status.Phase = corev1.PodSucceeded // no endpoint
			if out.Encode(&metav1.WatchEvent{Type: "MODIFIED", Object: kruntime.RawExtension{Raw: protobufOf(&p)}}) != nil {
				return true
			}
		}
		return true
	}
	cfg := remoteConfig(a)
	cfg.limit, cfg.timing.RetryTooLarge = 2000, 1<<40
	start(t, cfg, s)
	s.waitReason(t, "canada", model.ReasonTooLarge)
}

// TestListsOfManyNamespacesTogetherStopAtTheLimit_1_2: each of them alone would
// fit.
func TestListsOfManyNamespacesTogetherStopAtTheLimit_1_2(t *testing.T) {
	for _, streamed := range []bool{true, false} {
		t.Run(fmt.Sprintf("streamed=%v", streamed), func(t *testing.T) {
			a, s := newFakeAPI(t), newFakeSink()
			a.streamed = streamed
			a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				ns, ok := strings.CutPrefix(strings.TrimSuffix(r.URL.Path, "/pods"), "/api/v1/namespaces/")
				if !ok || ns+"/pods" == r.URL.Path || !strings.HasSuffix(r.URL.Path, "/pods") || !streamed && r.URL.Query().Get("watch") != "" {
					return false
				}
				pods := podsFrom(0, 300)
				for i := range pods {
					pods[i].Namespace = ns
				}
				w.Header().Set("Content-Type", kruntime.ContentTypeProtobuf)
				if streamed {
					info, _ := kruntime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), kruntime.ContentTypeProtobuf)
					out := streaming.NewEncoder(info.StreamSerializer.Framer.NewFrameWriter(w), info.StreamSerializer.Serializer)
					for i := range pods {
						_ = out.Encode(&metav1.WatchEvent{Type: "ADDED", Object: kruntime.RawExtension{Raw: protobufOf(&pods[i])}})
					}
					w.(http.Flusher).Flush()
				} else if r.URL.Query().Get("continue") == "" {
					_, _ = w.Write(protobufOf(&corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "1", Continue: "more"}, Items: pods}))
					return true
				}
				<-r.Context().Done() // and there it stands
				return true
			}
			cfg := remoteConfig(a)
			cfg.namespaces, cfg.limit = []string{"one", "two"}, 500
			cfg.timing.PageTimeout, cfg.timing.RetryTooLarge = 1<<40, 1<<40
			start(t, cfg, s)
			s.waitReason(t, "canada", model.ReasonTooLarge)
		})
	}
}

func TestWhatIsRefusedIsRememberedWithinBounds_1_6(t *testing.T) {
	for _, namespaces := range []int{0, 2, 256} {
		cfg := remoteConfig(newFakeAPI(t))
		for i := range namespaces {
			cfg.namespaces = append(cfg.namespaces, fmt.Sprint("ns-", i))
		}
		session, err := newSession(newCluster(cfg, newFakeSink(), newReporter("canada", cfg.timing, newFakeSink())))
		if err != nil {
			t.Fatal(err)
		}
		session.addFeeds()
		remembered := 0
		for _, f := range session.feeds {
			for i := range maxOddities {
				f.odd.set(uint64(i), oddity{refused: model.RefusedMalformed})
			}
			if err := f.Replace(nil, ""); err != nil || len(f.odd.of) > 0 {
				t.Fatal("a new list has nothing refused", err)
			}
			for i := range maxOddities {
				f.odd.set(uint64(i), oddity{refused: model.RefusedMalformed})
			}
			remembered += len(f.odd.of)
		}
		if most := 3 * maxOddities; remembered > most {
			t.Errorf("%d are remembered with %d namespaces, expected at most %d", remembered, namespaces, most)
		}
	}
}

// BenchmarkList is a list of 100,000 pods from the wire to facts: what stays, and
// what is thrown away, a pod.
func BenchmarkList(b *testing.B) {
	page := protobufOf(&corev1.PodList{Items: podsFrom(0, pageSize)})
	const pods = 100_000
	for b.Loop() {
		e, err := decodeEnvelope(page)
		if err != nil {
			b.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		c := converterOf(model.KindPod)
		all := &itemList{}
		for range pods / pageSize {
			l, err := c.list(e.raw)
			if err != nil {
				b.Fatal(err)
			}
			all.Items = append(all.Items, l.Items...)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/pods, "B-kept/pod")
		b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/pods, "B-allocated/pod")
		runtime.KeepAlive(all)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/pods, "ns/pod")
}

// unlimited is a client without a rate limit.
func unlimited(t *testing.T, cfg *config, kind model.Kind) rest.Interface {
	t.Helper()
	clients, err := dial(cfg, func() {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(clients.close)
	client, _ := clients.group(kind)
	return unthrottled{client}
}

type unthrottled struct{ rest.Interface }

func (u unthrottled) Get() *rest.Request {
	return u.Interface.Get().Throttle(flowcontrol.NewFakeAlwaysRateLimiter())
}
