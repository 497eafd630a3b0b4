package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
)

const (
	// The agents' namespace and the label of their pods, as in manifests/.
	agentNamespace = "overland-system"
	agentSelector  = "app.kubernetes.io/name=overland-agent"
	// remoteProgram is this program in the agent's image.
	remoteProgram = "/overland"
	// defaultContainer is the annotation that kubectl looks at, too.
	defaultContainer = "kubectl.kubernetes.io/default-container"
)

// execute runs a command in the agent's pod of the target's node. The command's
// exit status is this one's.
func (t *target) execute(ctx context.Context, io streams, command []string) error {
	config, err := t.kube.ToRESTConfig()
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("use the kubeconfig: %w", err)
	}
	pod, err := agentPod(ctx, clients, t.node)
	if err != nil {
		return err
	}
	request := clients.CoreV1().RESTClient().Post().
		Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: container(pod), Command: command, Stdout: true, Stderr: true,
		}, scheme.ParameterCodec)
	executor, err := newExecutor(config, request.URL())
	if err != nil {
		return fmt.Errorf("exec into pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: io.out, Stderr: io.err})
	var status utilexec.CodeExitError
	if err == nil || errors.As(err, &status) {
		return err
	}
	return fmt.Errorf("exec into pod %s/%s: %w", pod.Namespace, pod.Name, err)
}

// agentPod is the pod of the agent of a node: one that can answer, if there is
// one.
func agentPod(ctx context.Context, clients kubernetes.Interface, node string) (*corev1.Pod, error) {
	list, err := clients.CoreV1().Pods(agentNamespace).List(ctx, metav1.ListOptions{
		LabelSelector: agentSelector,
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("look for the agent's pod of node %s: %w", node, err)
	}
	pods := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.Status.Phase != corev1.PodRunning })
	if len(pods) == 0 && len(list.Items) > 0 {
		return nil, fmt.Errorf("the agent's pod of node %s is not running: see kubectl -n %s get pods -o wide", node, agentNamespace)
	}
	if len(pods) == 0 {
		return nil, fmt.Errorf("no agent's pod on node %s in namespace %s: is that a node of this cluster (kubectl get nodes), and is the DaemonSet scheduled to it?",
			node, agentNamespace)
	}
	// While an agent is replaced there may be two: the one that stays answers.
	best := slices.MinFunc(pods, func(a, b corev1.Pod) int { return unfit(a) - unfit(b) })
	return &best, nil
}

// unfit grows with how little a running pod is likely to answer.
func unfit(p corev1.Pod) int {
	score := 0
	if p.DeletionTimestamp != nil {
		score += 2
	}
	if !slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	}) {
		score++
	}
	return score
}

func container(p *corev1.Pod) string {
	if name := p.Annotations[defaultContainer]; name != "" {
		return name
	}
	return p.Spec.Containers[0].Name
}

// newExecutor speaks WebSocket, and SPDY where that is not understood: an API
// server before 1.30, or a proxy on the way.
func newExecutor(config *rest.Config, to *url.URL) (remotecommand.Executor, error) {
	spdy, err := remotecommand.NewSPDYExecutor(config, "POST", to)
	if err != nil {
		return nil, err
	}
	// RFC 6455, section 4.1: a WebSocket is opened with GET.
	webSocket, err := remotecommand.NewWebSocketExecutor(config, "GET", to.String())
	if err != nil {
		return nil, err
	}
	return remotecommand.NewFallbackExecutor(webSocket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
}
