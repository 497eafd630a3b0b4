package source

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/pkg/model"
)

func made(t *testing.T, kind model.Kind, o interface{ Marshal() ([]byte, error) }) (model.Fact, model.RefusalReason) {
	t.Helper()
	text, err := o.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return Fact("west", true, kind, text)
}

func TestFactIsWhatTheSourceMakesOfAnObject(t *testing.T) {
	meta := metav1.ObjectMeta{Namespace: "demo", Name: "a"}
	status := corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.1.0.4"}}}
	f, refused := made(t, model.KindPod, &corev1.Pod{ObjectMeta: meta, Status: status})
	if e, ok := f.(*model.Endpoint); !ok || refused != "" || e.Key != model.PodKey("west", "demo", "a") || len(e.Addresses) != 1 {
		t.Errorf("a pod: %v, %q", f, refused)
	}
	if f, refused := made(t, model.KindPod, &corev1.Pod{ObjectMeta: meta}); f != nil || refused != "" {
		t.Errorf("a pod without an address: %v, %q", f, refused)
	}
	status.PodIPs[0].IP = "none"
	if f, refused := made(t, model.KindPod, &corev1.Pod{ObjectMeta: meta, Status: status}); f != nil || refused != model.RefusedMalformed {
		t.Errorf("a pod with a malformed address: %v, %q", f, refused)
	}
	if f, refused := Fact("west", true, model.KindPolicy, []byte{0xff}); f != nil || refused != model.RefusedMalformed {
		t.Errorf("no message: %v, %q", f, refused)
	}
}

// An empty value is an invalid one, which means local, and must not look like no
// annotation, which means the default.
func TestAnEmptyPeerScopeIsNotNone_2_3(t *testing.T) {
	for name, tt := range map[string]struct {
		annotations map[string]string
		want        string
	}{
		"none":  {map[string]string{"other": ""}, ""},
		"empty": {map[string]string{model.AnnotationPeerScope: ""}, "(empty)"},
		"mesh":  {map[string]string{model.AnnotationPeerScope: "mesh"}, "mesh"},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := made(t, model.KindPolicy, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "a", Annotations: tt.annotations}})
			if p, ok := f.(*model.Policy); !ok || p.PeerScope != tt.want {
				t.Errorf("a policy: %+v", f)
			}
			f, _ = made(t, model.KindNamespace, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "demo", Annotations: tt.annotations}})
			if n, ok := f.(*model.Namespace); !ok || n.PeerScope != tt.want {
				t.Errorf("a namespace: %+v", f)
			}
		})
	}
}
