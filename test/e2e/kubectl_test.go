package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/test/lab/kubeclient"
	"github.com/overland-net/overland/test/lab/labtest"
	"github.com/overland-net/overland/test/lab/ns"
)

// shell is a pod that runs a script with busybox.
func shell(name, script, extra string) string {
	return fill(`
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: busybox, image: busybox, command: [sh, -c, 'SCRIPT'], EXTRA}]
---
`, "NAME", name, "SCRIPT", script, "EXTRA", extra)
}

const idle = "sleep 100000"

// kubectl runs kubectl in the namespace; it has to succeed.
func kubectl(t *testing.T, n *labtest.Namespace, args ...string) string {
	t.Helper()
	out := n.Kubectl(t, append([]string{"-n", n.Name}, args...)...)
	if out.Code != 0 {
		t.Fatalf("kubectl %s: %s", strings.Join(args, " "), out)
	}
	return out.Stdout
}

func TestKubectlExecHasExitStatusStreamsAndTerminal(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "exec")
	n.Apply(shell("shell", idle, ""))
	n.Pod("shell")
	exec := func(stdin string, flags []string, command ...string) labtest.Output {
		args := append(append([]string{"-n", n.Name, "exec", "shell"}, flags...), "--")
		return n.KubectlWith(t, strings.NewReader(stdin), append(args, command...)...)
	}
	if out := exec("", nil, "sh", "-c", "echo out; echo err >&2; exit 7"); out.Code != 7 || out.Stdout != "out\n" || !strings.HasPrefix(out.Stderr, "err\n") {
		t.Errorf("expected out, err and 7, got %s", out)
	}
	text := strings.Repeat("0123456789abcdef", 1<<16) // a mebibyte: many frames
	if out := exec(text, []string{"-i"}, "wc", "-c"); strings.TrimSpace(out.Stdout) != "1048576" {
		t.Errorf("the standard input did not arrive whole: %s", out)
	}
	if out := exec("", nil, "hostname"); out.Stdout != "shell\n" {
		t.Errorf("the host name is not the pod's: %s", out)
	}
	if out := exec("", nil, "no-such-program"); out.Code == 0 || !strings.Contains(out.Stderr, "no-such-program") {
		t.Errorf("a missing program should be named: %s", out)
	}
}

func TestKubectlExecWithATerminalIsATerminal(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "tty")
	n.Apply(shell("shell", idle, ""))
	n.Pod("shell")
	command, where, err := n.KubectlCommand(t.Context(), "-n", n.Name, "exec", "-it", "shell", "--", "sh", "-c", "tty && stty size")
	if err != nil {
		t.Fatal(err)
	}
	// script gives kubectl a terminal of its own.
	line := "stty rows 33 cols 77; " + strings.Join(command.Args, " ")
	terminal := exec.CommandContext(t.Context(), "/usr/bin/script", "-qec", line, "/dev/null")
	terminal.Env = append(command.Env, "SHELL=/bin/sh", "TERM=xterm")
	var out strings.Builder
	terminal.Stdout, terminal.Stderr = &out, &out
	if err := where.Start(terminal); err != nil {
		t.Fatal(err)
	}
	if err := terminal.Wait(); err != nil {
		t.Errorf("exec -it: %v: %s", err, out.String())
	}
	if !strings.Contains(out.String(), "/dev/pts/") || !strings.Contains(out.String(), "33 77") {
		t.Errorf("expected a terminal of 33 by 77, got %q", out.String())
	}
}

func TestKubectlLogsHasTailPreviousAndFollow(t *testing.T) {
	t.Parallel()
	n := canada().NewNamespace(t, "logs")
	const counting = `echo run $(ls /count | wc -l); touch /count/$(ls /count | wc -l); for i in 1 2 3 4 5; do echo line $i; done; echo to stderr >&2; `
	mount := "volumeMounts: [{name: count, mountPath: /count}]"
	n.Apply(strings.Replace(shell("again", counting+`[ $(ls /count | wc -l) = 2 ] && `+idle+`; exit 3`, mount),
		"spec:", "spec:\n  volumes: [{name: count, emptyDir: {}}]", 1) +
		shell("ticking", `i=0; while true; do i=$((i+1)); echo tick $i; sleep 0.2; done`, ""))
	n.PodWhen("again", "restarted once", func(p *v1.Pod) bool {
		s := p.Status.ContainerStatuses
		return len(s) == 1 && s[0].RestartCount == 1 && s[0].State.Running != nil
	})
	n.Wait("the second run's log", func(context.Context) (string, bool, error) {
		out := n.Kubectl(t, "-n", n.Name, "logs", "again")
		return out.String(), strings.Contains(out.Stdout, "run 1\n") && strings.Contains(out.Stdout, "line 5\n") && strings.Contains(out.Stdout, "to stderr\n"), nil
	})
	if got := kubectl(t, n, "logs", "again", "--previous"); !strings.Contains(got, "run 0\n") || strings.Contains(got, "run 1\n") {
		t.Errorf("the log of the previous run is %q", got)
	}
	if got := kubectl(t, n, "logs", "again", "--previous", "--tail", "2"); len(strings.Split(strings.TrimSpace(got), "\n")) != 2 {
		t.Errorf("the last 2 lines are %q", got)
	}
	n.Pod("ticking")
	follow(t, n, "tick 12")
}

// follow reads a pod's log with `kubectl logs -f` until a line comes.
func follow(t *testing.T, n *labtest.Namespace, last string) {
	t.Helper()
	command, where, err := n.KubectlCommand(t.Context(), "-n", n.Name, "logs", "-f", "ticking")
	if err != nil {
		t.Fatal(err)
	}
	lines := start(t, command, where)
	for want := 1; lines.Scan(); want++ {
		if got := lines.Text(); got != fmt.Sprintf("tick %d", want) {
			t.Fatalf("line %d of the log is %q", want, got)
		}
		if lines.Text() == last {
			return
		}
	}
	t.Errorf("the log ended before %q", last)
}

// start starts a command that runs until the test ends, and gives its output.
func start(t *testing.T, command *exec.Cmd, where ns.Set) *bufio.Scanner {
	t.Helper()
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = os.Stderr
	if err := where.Start(command); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait() // killed
	})
	return bufio.NewScanner(out)
}

func TestKubectlCpCopiesBothWays(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "cp")
	n.Apply(shell("shell", idle, ""))
	n.Pod("shell")
	folder := t.TempDir()
	there, back := filepath.Join(folder, "there"), filepath.Join(folder, "back")
	text := strings.Repeat("some text\n", 100_000)
	if err := os.WriteFile(there, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl(t, n, "cp", there, "shell:/tmp/there")
	kubectl(t, n, "cp", "shell:/tmp/there", back)
	got, err := os.ReadFile(back)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != text {
		t.Errorf("%d bytes came back of %d", len(got), len(text))
	}
}

func TestKubectlPortForwardReachesThePod(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "forward")
	n.Apply(server("server", ""))
	n.Pod("server")
	command, where, err := n.KubectlCommand(t.Context(), "-n", n.Name, "port-forward", "pod/server", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	lines := start(t, command, where)
	if !lines.Scan() {
		t.Fatal("port-forward said nothing")
	}
	local := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(lines.Text())
	for range 2 { // a forwarded port takes more than one connection
		conn, err := kubeclient.Dialer(where.Net)(t.Context(), "tcp", local)
		if err != nil {
			t.Fatal(err)
		}
		if got := askLine(t, conn); !strings.Contains(got, `"server":"server"`) {
			t.Errorf("the pod answered %q", got)
		}
	}
}

// askLine asks a netprobe server on a connection, once.
func askLine(t *testing.T, conn net.Conn) string {
	t.Helper()
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func TestKubectlRunAttachesToItsPod(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "attach")
	// The script says nothing before it has read, and so not before kubectl is
	// attached.
	out := n.KubectlWith(t, strings.NewReader("hello\n"), "-n", n.Name, "run", "once", "--image=busybox", "--restart=Never",
		"--rm", "-i", "-q", "--command", "--", "sh", "-c", "read word; echo $word to you; exit 4")
	if out.Code != 4 || out.Stdout != "hello to you\n" {
		t.Errorf("expected an answer and 4, got %s", out)
	}
}
