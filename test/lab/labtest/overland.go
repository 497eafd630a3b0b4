package labtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// adminSocket is where the agent of a node listens.
const adminSocket = "/run/overland/admin.sock"

// InstallOverland installs Overland in every cluster with the lab's own
// command, and links them all unless flags say otherwise. The programs are those
// beside the lab's own, or built.
func (l *Lab) InstallOverland(flags ...string) error {
	programs, err := findPrograms()
	if err != nil {
		return err
	}
	args := append([]string{"--state", string(l.dir), "overland", "--programs", programs}, flags...)
	cmd := exec.Command(filepath.Join(l.dir.Bin(), "lab"), args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("install Overland in the lab: %w", err)
	}
	return nil
}

// findPrograms is the folder of Overland's programs: that of the lab's program
// if it is named, else the checkout's bin, built anew.
func findPrograms() (string, error) {
	if path := os.Getenv(programVariable); path != "" {
		return filepath.Dir(path), nil
	}
	root, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	checkout := filepath.Dir(strings.TrimSpace(string(root)))
	folder := filepath.Join(checkout, "bin")
	cmd := exec.Command("go", "build", "-o", folder+string(filepath.Separator), "./cmd/...")
	cmd.Dir = checkout
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build Overland: %w: %s", err, out)
	}
	return folder, nil
}

// Overland runs the `overland` command on a node, named CLUSTER/NODE. A status
// other than 0 is for the caller to judge.
func (l *Lab) Overland(t testing.TB, node string, args ...string) Output {
	t.Helper()
	return l.NodeExec(t, node, append([]string{"overland"}, args...)...)
}

// OverlandBeside runs the `overland` command beside a cluster's API server, with
// a kubeconfig that has a context for every cluster, named as the cluster.
func (l *Lab) OverlandBeside(t testing.TB, cluster string, args ...string) Output {
	t.Helper()
	where, err := l.Daemon.NetworkNamespace(l.Cluster(cluster).ControlPlane.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	// Not the test's own context: a cleanup links and unlinks too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), disturbTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(l.dir.Bin(), "overland"), args...)
	cmd.Env = []string{"HOME=" + l.dir.Cluster(cluster), "KUBECONFIG=" + filepath.Join(string(l.dir), "kubeconfig")}
	out, err := run(cmd, where)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// AdminClient is an HTTP client of the admin socket of a node's agent, until the
// node is rebooted: requests go to http://agent/… and need nothing of the API
// server. Each has a connection of its own.
func (l *Lab) AdminClient(ctx context.Context, node string) (*http.Client, error) {
	root, err := l.nodeRoot(ctx, node)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", root+adminSocket)
		},
	}}, nil
}

// AskAgent gets a path of the admin socket of a node's agent.
func AskAgent[T any](ctx context.Context, l *Lab, node, path string) (T, error) {
	var answer T
	text, err := l.getFromAgent(ctx, node, path)
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(text, &answer)
}

// AgentMetrics are the metrics of a node's agent, as text.
func (l *Lab) AgentMetrics(ctx context.Context, node string) (string, error) {
	text, err := l.getFromAgent(ctx, node, "/metrics")
	return string(text), err
}

func (l *Lab) getFromAgent(ctx context.Context, node, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return nil, err
	}
	client, err := l.AdminClient(ctx, node)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // read to the end below
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, response.Status, text)
	}
	return text, err
}

// AgentProcess is the process id, as the machine sees it, of the agent that runs
// on a node; 0 if none does.
func (l *Lab) AgentProcess(t testing.TB, node string) int {
	t.Helper()
	root, err := l.nodeRoot(context.WithoutCancel(t.Context()), node) // a cleanup asks too
	if err != nil {
		t.Fatal(err)
	}
	proc, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	// Its network namespace tells the node; its command line, the agent.
	home, err := os.Readlink(filepath.Join(filepath.Dir(root), "ns", "net"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range proc {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// Processes come and go: what cannot be read is gone.
		command, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if name, _, _ := strings.Cut(string(command), "\x00"); filepath.Base(name) != "overland-agent" {
			continue
		}
		if its, _ := os.Readlink(filepath.Join("/proc", entry.Name(), "ns", "net")); its == home {
			return pid
		}
	}
	return 0
}
