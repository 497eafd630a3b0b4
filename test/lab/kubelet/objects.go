package kubelet

import (
	"context"
	"fmt"
	"sync"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
)

// maxKept bounds how many objects are remembered for times when the API server
// is away.
const maxKept = 4096

// objects reads ConfigMaps and Secrets. While the API server cannot be reached
// it gives what was read last, so that containers can restart.
type objects struct {
	client kubernetes.Interface

	mu         sync.Mutex
	configMaps map[string]*v1.ConfigMap
	secrets    map[string]*v1.Secret
}

func newObjects(client kubernetes.Interface) *objects {
	return &objects{client: client, configMaps: map[string]*v1.ConfigMap{}, secrets: map[string]*v1.Secret{}}
}

// ConfigMap reads a ConfigMap.
func (o *objects) ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error) {
	return read(ctx, o, o.configMaps, namespace+"/"+name, func(ctx context.Context) (*v1.ConfigMap, error) {
		return o.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	})
}

// Secret reads a Secret.
func (o *objects) Secret(ctx context.Context, namespace, name string) (*v1.Secret, error) {
	return read(ctx, o, o.secrets, namespace+"/"+name, func(ctx context.Context) (*v1.Secret, error) {
		return o.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	})
}

func read[T any](ctx context.Context, o *objects, kept map[string]*T, key string, get func(context.Context) (*T, error)) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	object, err := get(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil:
		if len(kept) >= maxKept {
			clear(kept)
		}
		kept[key] = object
		return object, nil
	case apierrors.IsNotFound(err):
		delete(kept, key)
	case kept[key] != nil:
		return kept[key], nil
	}
	return nil, fmt.Errorf("read %s: %w", key, err)
}

// Token asks for a token of the pod's ServiceAccount, bound to the pod.
func (o *objects) Token(ctx context.Context, pod *v1.Pod, ask *v1.ServiceAccountTokenProjection) (string, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{
		ExpirationSeconds: ask.ExpirationSeconds,
		BoundObjectRef:    &authv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if ask.Audience != "" {
		request.Spec.Audiences = []string{ask.Audience}
	}
	got, err := o.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return "", time.Time{}, err
	}
	return got.Status.Token, got.Status.ExpirationTimestamp.Time, nil
}

func everything() labels.Selector { return labels.Everything() }
