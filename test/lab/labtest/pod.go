package labtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	clientspdy "k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/overland-net/overland/test/lab/ns"
)

// Pod is a pod as it was when it was looked at.
type Pod struct {
	Cluster   *Cluster
	Object    *v1.Pod
	Namespace string
	Name      string
	UID       string
	Node      string       // its name
	Addresses []netip.Addr // in the order of its status
}

func newPod(c *Cluster, p *v1.Pod) *Pod {
	pod := &Pod{
		Cluster: c, Object: p, Namespace: p.Namespace, Name: p.Name, UID: string(p.UID), Node: p.Spec.NodeName,
	}
	for _, ip := range p.Status.PodIPs {
		if addr, err := netip.ParseAddr(ip.IP); err == nil {
			pod.Addresses = append(pod.Addresses, addr)
		}
	}
	return pod
}

// String is CLUSTER/NAMESPACE/NAME.
func (p *Pod) String() string { return p.Cluster.Name + "/" + p.Namespace + "/" + p.Name }

// NodePath is the node as CLUSTER/NODE.
func (p *Pod) NodePath() string { return p.Cluster.Name + "/" + p.Node }

// Address is the pod's address of a family, 4 or 6, or the zero one.
func (p *Pod) Address(family int) netip.Addr {
	for _, a := range p.Addresses {
		if a.Is4() == (family == 4) {
			return a
		}
	}
	return netip.Addr{}
}

// Status is what was seen of one of its containers.
func (p *Pod) Status(container string) v1.ContainerStatus {
	for _, s := range p.Object.Status.ContainerStatuses {
		if s.Name == container {
			return s
		}
	}
	return v1.ContainerStatus{}
}

// Exec runs a command in the pod's first container, through the API server. A
// status other than 0 is for the caller to judge.
func (p *Pod) Exec(t testing.TB, command ...string) Output {
	t.Helper()
	out, err := p.exec(t.Context(), p.Object.Spec.Containers[0].Name, nil, command)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// exec runs a command in a container, through the API server.
func (p *Pod) exec(ctx context.Context, container string, stdin io.Reader, command []string) (Output, error) {
	fail := func(err error) (Output, error) {
		return Output{}, fmt.Errorf("exec %s in %s: %w", strings.Join(command, " "), p, err)
	}
	url := p.Cluster.Client.CoreV1().RESTClient().Post().Namespace(p.Namespace).Resource("pods").Name(p.Name).
		SubResource("exec").VersionedParams(&v1.PodExecOptions{
		Container: container, Command: command, Stdin: stdin != nil, Stdout: true, Stderr: true,
	}, scheme.ParameterCodec).URL()
	tls, err := rest.TLSConfigFor(p.Cluster.Config)
	if err != nil {
		return fail(err)
	}
	// The library's own transport for this would not dial in the namespace.
	transport, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{
		UpgradeTransport: &http.Transport{DialContext: p.Cluster.Config.Dial, TLSClientConfig: tls},
	})
	if err != nil {
		return fail(err)
	}
	executor, err := remotecommand.NewSPDYExecutorForTransports(transport, clientspdy.NewUpgraderForStreaming(transport), http.MethodPost, url)
	if err != nil {
		return fail(err)
	}
	var stdout, stderr bytes.Buffer
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: stdin, Stdout: &stdout, Stderr: &stderr})
	out := Output{Stdout: stdout.String(), Stderr: stderr.String()}
	var exit utilexec.ExitError
	if errors.As(err, &exit) {
		out.Code, err = exit.ExitStatus(), nil
	}
	if err != nil {
		return fail(err)
	}
	return out, nil
}

// sandbox is what the node's runtime has recorded of a pod.
type sandbox struct {
	UID, NetNS string
	Ready      bool
}

// network is the pod's network namespace, found without the API server: in
// what the node's runtime has recorded.
func (p *Pod) network(ctx context.Context) (ns.Set, error) {
	root, err := p.Cluster.lab.nodeRoot(ctx, p.NodePath())
	if err != nil {
		return ns.Set{}, err
	}
	records, err := filepath.Glob(filepath.Join(root, "run/lab/runtime/sandboxes/*/sandbox.json"))
	if err != nil {
		return ns.Set{}, fmt.Errorf("find the network of %s: %w", p, err)
	}
	for _, path := range records {
		s, err := readRecord[sandbox](path)
		if err == nil && s.UID == p.UID && s.Ready && s.NetNS != "" {
			return ns.Net(filepath.Join(root, s.NetNS)), nil
		}
	}
	return ns.Set{}, fmt.Errorf("find the network of %s: node %s has no sandbox of it", p, p.NodePath())
}

// Process is what runs a container on its node.
type Process struct {
	PID   int    // in the node's PID namespace
	Start uint64 // tells it from a later one of that number
}

// Process is the first process of a container whose ID, as in its status, is
// given, as the node's runtime has recorded it.
func (p *Pod) Process(t testing.TB, containerID string) Process {
	t.Helper()
	root, err := p.Cluster.lab.nodeRoot(t.Context(), p.NodePath())
	if err != nil {
		t.Fatal(err)
	}
	_, id, _ := strings.Cut(containerID, "://")
	found, err := readRecord[Process](filepath.Join(root, "run/lab/runtime/containers", id, "state.json"))
	if err != nil {
		t.Fatalf("container %s of %s: %v", containerID, p, err)
	}
	return found
}

func readRecord[T any](path string) (T, error) {
	var record T
	text, err := os.ReadFile(path)
	if err != nil {
		return record, err
	}
	if err := json.Unmarshal(text, &record); err != nil {
		return record, fmt.Errorf("read %s: %w", path, err)
	}
	return record, nil
}
