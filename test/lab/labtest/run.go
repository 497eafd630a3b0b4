package labtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/overland-net/overland/test/lab/ns"
)

// Output is what a command has left.
type Output struct {
	Stdout, Stderr string
	Code           int // the exit status
}

// String is all of it, for messages.
func (o Output) String() string {
	return fmt.Sprintf("exit status %d\nstdout: %s\nstderr: %s", o.Code, strings.TrimSpace(o.Stdout), strings.TrimSpace(o.Stderr))
}

// nodePath is the PATH of commands on nodes.
const nodePath = "PATH=/opt/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// run runs a command in the namespaces. An exit status is no error.
func run(cmd *exec.Cmd, where ns.Set) (Output, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := where.Start(cmd); err != nil {
		return Output{}, err
	}
	err := cmd.Wait()
	out := Output{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if errors.As(err, &exit) && out.Code >= 0 {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("run %s: %w: %s", strings.Join(cmd.Args, " "), err, out.Stderr)
	}
	return out, err
}

// KubectlCommand is the real kubectl on the cluster, and where to start it: in
// the control plane's network namespace, the only place that has the API server.
func (c *Cluster) KubectlCommand(ctx context.Context, args ...string) (*exec.Cmd, ns.Set, error) {
	where, err := c.lab.Daemon.NetworkNamespace(c.ControlPlane.Namespace)
	if err != nil {
		return nil, ns.Set{}, err
	}
	bin := c.lab.dir.Bin()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "kubectl"), append([]string{"--kubeconfig", c.Kubeconfig}, args...)...)
	// kubectl caches what it discovers in its home folder, and kubectl cp wants tar.
	cmd.Env = []string{"HOME=" + filepath.Dir(c.Kubeconfig), "PATH=" + os.Getenv("PATH")}
	return cmd, where, nil
}

// Kubectl runs the real kubectl on the cluster. A status other than 0 is for
// the caller to judge.
func (c *Cluster) Kubectl(t testing.TB, args ...string) Output {
	t.Helper()
	return c.KubectlWith(t, nil, args...)
}

// KubectlWith is Kubectl with a standard input.
func (c *Cluster) KubectlWith(t testing.TB, stdin io.Reader, args ...string) Output {
	t.Helper()
	// Not the test's own context: a cleanup, too, takes things away with it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), disturbTimeout)
	defer cancel()
	cmd, where, err := c.KubectlCommand(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = stdin
	out, err := run(cmd, where)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// NodeExec runs a command in all namespaces of a node, named CLUSTER/NODE. A
// status other than 0 is for the caller to judge.
func (l *Lab) NodeExec(t testing.TB, node string, command ...string) Output {
	t.Helper()
	where, err := l.Daemon.NodeNamespaces(context.WithoutCancel(t.Context()), node)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), disturbTimeout) // as in KubectlWith
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/env", command...)
	cmd.Dir, cmd.Env = "/", []string{nodePath, "HOME=/root"}
	out, err := run(cmd, where)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// MustNodeExec is NodeExec for a command that has to succeed; it returns what
// the command wrote to its standard output.
func (l *Lab) MustNodeExec(t testing.TB, node string, command ...string) string {
	t.Helper()
	out := l.NodeExec(t, node, command...)
	if out.Code != 0 {
		t.Fatalf("on %s: %s: %s", node, strings.Join(command, " "), out)
	}
	return out.Stdout
}

// Command runs the lab's own command line, such as "status".
func (l *Lab) Command(t testing.TB, args ...string) Output {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), disturbTimeout) // as in KubectlWith
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(l.dir.Bin(), "lab"), append([]string{"--state", string(l.dir)}, args...)...)
	out, err := run(cmd, ns.Set{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// nodeRoot is a node's root folder as the machine sees it.
func (l *Lab) nodeRoot(ctx context.Context, node string) (string, error) {
	where, err := l.Daemon.NodeNamespaces(ctx, node)
	if err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(filepath.Dir(where.Net)), "root"), nil
}
