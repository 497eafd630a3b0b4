package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/pkg/admin/api"
)

// syntheticPod is a pod as a Deployment of an ordinary web service makes it: its
// encoded form takes about 5 KB, of which an agent needs a tenth.
func syntheticPod(i int) *corev1.Pod {
	app := fmt.Sprintf("app-%d", i/10)
	env := make([]corev1.EnvVar, 12)
	for n := range env {
		env[n] = corev1.EnvVar{Name: fmt.Sprintf("SETTING_%d", n), Value: "some value that a program reads at its start"}
	}
	container := corev1.Container{
		Name: "main", Image: "registry.example.com/team/" + app + ":v1.2.3", Env: env,
		Ports:        []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}, {Name: "metrics", ContainerPort: 9090, Protocol: corev1.ProtocolTCP}},
		VolumeMounts: []corev1.VolumeMount{{Name: "kube-api-access", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}},
	}
	address := fmt.Sprintf("10.%d.%d.%d", 64+i/62500, i/250%250, i%250+1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: fmt.Sprintf("namespace-%d", i%syntheticNamespaces), Name: fmt.Sprintf("%s-5d4f8c7b9-%05d", app, i),
			UID: uid(1, i), ResourceVersion: syntheticVersion, CreationTimestamp: metav1.NewTime(time.Unix(1_700_000_000+int64(i), 0)),
			Labels: map[string]string{
				"app": app, "app.kubernetes.io/name": app, "app.kubernetes.io/part-of": "shop", "pod-template-hash": "5d4f8c7b9",
				"tier": fmt.Sprintf("tier-%d", i%5), "version": "v1.2.3",
			},
			Annotations:   map[string]string{"example.com/checksum": strings.Repeat("0123456789abcdef", 4)},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet", Operation: "Update", FieldsV1: metav1.NewFieldsV1(`{"f:status":{` + strings.Repeat(`"f:conditions":{},`, 100) + `"f:phase":{}}}`)}},
		},
		Spec: corev1.PodSpec{
			NodeName: fmt.Sprintf("node-%d", i%syntheticNodes), ServiceAccountName: app, Containers: []corev1.Container{container, container},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}, {Type: corev1.PodScheduled, Status: corev1.ConditionTrue}},
		},
	}
}

// BenchmarkIndexAgentMemory is the memory of a whole agent that knows so many
// endpoints of a linked cluster, beside one that knows none.
func BenchmarkIndexAgentMemory(b *testing.B) {
	for _, pods := range []int{0, 100_000} {
		b.Run(fmt.Sprintf("remote-endpoints-%d", pods), func(b *testing.B) {
			once(b, func() { measureAgent(b, pods) })
		})
	}
}

func measureAgent(b *testing.B, pods int) {
	kubeconfig := startSynthetic(b, pods)
	socket, pid := startAgent(b, kubeconfig)
	began := time.Now()
	for {
		known, err := endpointsKnown(socket, "canada")
		if err == nil && known >= pods+syntheticNodes {
			break
		}
		if time.Since(began) > 3*time.Minute {
			b.Fatalf("the agent knows %d endpoints of the remote cluster: %v", known, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.ReportMetric(time.Since(began).Seconds(), "s-to-sync")
	// What the first list has left is returned to the kernel in time.
	time.Sleep(15 * time.Second)
	b.ReportMetric(status(b, pid, "VmRSS:"), "MB-RSS")
	b.ReportMetric(status(b, pid, "VmHWM:"), "MB-peak")
}

// startSynthetic runs this program in its other role until the benchmark ends.
func startSynthetic(b *testing.B, pods int) (kubeconfig string) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", syntheticVariable, pods), "TMPDIR="+b.TempDir())
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = errors.Join(stdin.Close(), cmd.Wait()) }) // its end is all that matters
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatalf("the synthetic API servers did not start: %v", err)
	}
	return strings.TrimSpace(line)
}

// startAgent runs the built agent until the benchmark ends.
func startAgent(b *testing.B, kubeconfig string) (socket string, pid int) {
	folder, err := os.MkdirTemp("", "ovl") // short: it is in a socket's path
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(folder) }) // temporary anyway
	socket = filepath.Join(folder, "a.sock")
	cmd := exec.Command(filepath.Join(filepath.Dir(os.Getenv("OVERLAND_LAB_PROGRAM")), "overland-agent"),
		"--cluster-name=west", "--node-name=node-1", "--kubeconfig", kubeconfig, "--admin-socket", socket,
		"--store-dir", filepath.Join(folder, "store"), "--metrics-address=", "--federation-candidate=never",
		"--pod-cidrs=10.1.0.0/16", "--log-level=warning", "--dataplane=none")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatalf("start the agent (`make bench` builds it): %v", err)
	}
	b.Cleanup(func() { _ = errors.Join(cmd.Process.Kill(), cmd.Wait()) }) // its end is all that matters
	return socket, cmd.Process.Pid
}

func endpointsKnown(socket, cluster string) (int, error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	response, err := client.Get("http://agent" + api.PathClusters)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }() // read to the end
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	var list api.ClusterList
	if err := json.Unmarshal(text, &list); err != nil {
		return 0, err
	}
	for _, c := range list.Items {
		if c.Name == cluster {
			return c.Pods + c.Nodes, nil
		}
	}
	return 0, fmt.Errorf("cluster %s is not known: %s", cluster, text)
}

// status is a line of /proc/PID/status that counts kB, in MB.
func status(b *testing.B, pid int, line string) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), line)
	var kB float64
	if _, err := fmt.Sscan(rest, &kB); !found || err != nil {
		b.Fatalf("no %s of process %d", line, pid)
	}
	return kB * 1024 / 1e6
}
