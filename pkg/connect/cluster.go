package connect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/overland-net/overland/pkg/api/client"
)

// RemoteClusters is what is needed of the API server for RemoteCluster objects.
type RemoteClusters interface {
	client.Reader
	client.Writer
}

// Exec runs a command in an agent's pod and gives what it prints, also if it
// fails.
type Exec func(ctx context.Context, pod AgentPod, command []string, stdin io.Reader) ([]byte, error)

// Cluster is a cluster as a person reaches it.
type Cluster struct {
	Context string
	// Server, TLSServerName and CA are what the context says; the agents of the
	// other cluster get them unless something else is given.
	Server, TLSServerName string
	CA                    []byte

	Kube    kubernetes.Interface
	Remotes RemoteClusters
	Exec    Exec
}

// requestLimit bounds one request, so that a server that does not answer is
// found out in reasonable time.
const requestLimit = 20 * time.Second

// Open prepares the cluster of a kubeconfig context; nothing is asked of it yet.
// Files is like $KUBECONFIG, which is used if it is empty: several files are
// separated by colons.
func Open(files, name string) (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if files != "" {
		rules.Precedence = filepath.SplitList(files)
		for _, file := range rules.Precedence {
			// Load leaves out those that are missing.
			if _, err := os.Stat(file); err != nil {
				return nil, fmt.Errorf("read the kubeconfig: %w", err)
			}
		}
	}
	raw, err := rules.Load()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	kubeContext := raw.Contexts[name]
	if kubeContext == nil {
		return nil, fmt.Errorf("context %q: there is none of that name in the kubeconfig (kubectl config get-contexts lists them)", name)
	}
	config, err := clientcmd.NewNonInteractiveClientConfig(*raw, name, &clientcmd.ConfigOverrides{}, rules).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("context %q: %w", name, err)
	}
	config.Timeout = requestLimit
	config.UserAgent = "overland-connect"
	// The defaults would make one person wait as if they were a controller.
	config.QPS, config.Burst = 50, 100
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("context %q: %w", name, err)
	}
	remotes, err := client.New(config)
	if err != nil {
		return nil, fmt.Errorf("context %q: %w", name, err)
	}
	c := &Cluster{Context: name, Kube: kube, Remotes: remotes, Exec: execIn(config, kube)}
	return c, c.server(raw.Clusters[kubeContext.Cluster])
}

// server takes over how the context's API server is reached.
func (c *Cluster) server(info *clientcmdapi.Cluster) error {
	c.Server, c.TLSServerName, c.CA = info.Server, info.TLSServerName, info.CertificateAuthorityData
	if len(c.CA) == 0 && info.CertificateAuthority != "" {
		text, err := os.ReadFile(info.CertificateAuthority)
		if err != nil {
			return fmt.Errorf("context %q: read its certificate authority: %w", c.Context, err)
		}
		c.CA = text
	}
	return nil
}

// execIn runs commands as kubectl exec does: over a WebSocket, or SPDY where the
// server or something before it does not have them.
func execIn(config *rest.Config, kube kubernetes.Interface) Exec {
	return func(ctx context.Context, pod AgentPod, command []string, stdin io.Reader) ([]byte, error) {
		url := kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(Namespace).Name(pod.Name).SubResource("exec").
			VersionedParams(&corev1.PodExecOptions{
				Container: pod.Container, Command: command, Stdin: stdin != nil, Stdout: true, Stderr: true,
			}, scheme.ParameterCodec).URL()
		stream := rest.CopyConfig(config)
		stream.Timeout = 0 // it would be that of the whole stream; ctx bounds it
		socket, err := remotecommand.NewWebSocketExecutor(stream, "GET", url.String())
		if err != nil {
			return nil, fmt.Errorf("run %s in pod %s/%s: %w", command[0], Namespace, pod.Name, err)
		}
		spdy, err := remotecommand.NewSPDYExecutor(stream, "POST", url)
		if err != nil {
			return nil, fmt.Errorf("run %s in pod %s/%s: %w", command[0], Namespace, pod.Name, err)
		}
		both, err := remotecommand.NewFallbackExecutor(socket, spdy, func(err error) bool {
			return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
		})
		if err != nil {
			return nil, fmt.Errorf("run %s in pod %s/%s: %w", command[0], Namespace, pod.Name, err)
		}
		var out, complaint bytes.Buffer
		err = both.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: stdin, Stdout: &out, Stderr: &complaint})
		if err != nil {
			if text := strings.TrimSpace(complaint.String()); text != "" {
				err = errors.Join(err, errors.New(text))
			}
			return out.Bytes(), fmt.Errorf("run %s in pod %s/%s: %w", command[0], Namespace, pod.Name, err)
		}
		return out.Bytes(), nil
	}
}
