package source

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/overland-net/overland/pkg/model"
)

// Fact makes the fact of an object, given as the protobuf message that API
// servers send, just as the source of that cluster does. It is nil for an object
// that is none, such as a pod without an address; refused then says why, if it
// should be one.
func Fact(cluster string, local bool, kind model.Kind, message []byte) (fact model.Fact, refused model.RefusalReason) {
	i := converter{cluster: cluster, names: &interner{}, decoder: decoder{kind: kind, local: local}}.convert(message)
	return i.fact, i.refused
}

// ErrNoPod is that the API server has no such pod, or one that cannot be connected.
var ErrNoPod = errors.New("there is no such pod")

// Pod asks the API server for one pod of the local cluster, whichever node it is
// of, with or without an address. It is for what cannot wait for a watch. static is
// the uid that the kubelet gives to a static pod, which this one stands for; none if
// it does not.
func Pod(ctx context.Context, client corev1client.PodsGetter, cluster, namespace, name string) (fact *model.Endpoint, static model.UID, err error) {
	pod, err := client.Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, static, fmt.Errorf("pod %s/%s: %w", namespace, name, ErrNoPod)
	}
	if err != nil {
		return nil, static, fmt.Errorf("get pod %s/%s: %w", namespace, name, err)
	}
	message, err := pod.Marshal()
	if err != nil {
		return nil, static, fmt.Errorf("read pod %s/%s: %w", namespace, name, err)
	}
	c := converter{cluster: cluster, names: &interner{}, decoder: decoder{kind: model.KindPod, local: true, node: pod.Spec.NodeName}}
	i := c.convert(message)
	e, ok := i.fact.(*model.Endpoint)
	if !ok {
		return nil, static, fmt.Errorf("pod %s/%s has no network of its own, has ended, or is refused (%q): %w", namespace, name, i.refused, ErrNoPod)
	}
	return e, model.ParseUID(pod.Annotations[corev1.MirrorPodAnnotationKey]), nil
}
