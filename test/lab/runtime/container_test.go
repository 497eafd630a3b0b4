package runtime

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func execIn(t *testing.T, r *Runtime, id string, streams ExecIO, cmd ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	streams.Stdout, streams.Stderr = &out, &errs
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	code, err := r.Exec(ctx, id, cmd, streams)
	if err != nil {
		t.Fatal(err)
	}
	return code, out.String(), errs.String()
}

func TestHowContainersEnd(t *testing.T) {
	r, _ := newNode(t)
	s := sandboxOf(t, r, pod("web"))
	tests := []struct {
		name, script  string
		command       []string
		code          int
		reason, saved string
	}{
		{name: "well", script: "true"},
		{name: "with a code", script: "exit 7", code: 7},
		{name: "with a message", script: "echo bye >/dev/termination-log; exit 1", code: 1, saved: "bye\n"},
		{name: "not found", command: []string{"nonsense"}, code: 127, reason: ReasonStartError, saved: `exec: "nonsense": executable file not found in $PATH`},
		{name: "no file", command: []string{"/x"}, code: 127, reason: ReasonStartError, saved: `exec: "/x": no such file or directory`},
		{name: "not executable", command: []string{"/etc/passwd"}, code: 126, reason: ReasonStartError, saved: `exec: "/etc/passwd": permission denied`},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := shell("c", test.script)
			c.Attempt = i
			if test.command != nil {
				c.Command = test.command
			}
			got, _ := runToEnd(t, r, s, c)
			if got.ExitCode != test.code || got.Reason != test.reason || got.Message != test.saved {
				t.Errorf("%+v", got)
			}
			if got.FinishedAt.Before(got.StartedAt) || got.StartedAt.IsZero() {
				t.Errorf("from %v to %v", got.StartedAt, got.FinishedAt)
			}
		})
	}
}

func TestStopGivesGrace(t *testing.T) {
	r, _ := newNode(t)
	s := sandboxOf(t, r, pod("web"))
	tests := []struct {
		name, script string
		grace        time.Duration
		code         int
		least, most  time.Duration
	}{
		{"ends itself", `trap "exit 5" TERM; echo up; while :; do sleep 0.05; done`, 10 * time.Second, 5, 0, 5 * time.Second},
		{"does not", `trap "" TERM; echo up; while :; do sleep 0.05; done`, 500 * time.Millisecond, 137, 400 * time.Millisecond, 5 * time.Second},
		{"no grace", `trap "exit 5" TERM; echo up; while :; do sleep 0.05; done`, 0, 137, 0, 5 * time.Second},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := shell("c", test.script)
			c.Attempt = i
			started := start(t, r, s, c)
			for logText(t, started) != "up\n" {
				time.Sleep(10 * time.Millisecond)
			}
			begin := time.Now()
			if err := r.StopContainer(context.Background(), started.ID, test.grace); err != nil {
				t.Fatal(err)
			}
			took := time.Since(begin)
			if got := awaitExit(t, r, started.ID); got.ExitCode != test.code || took < test.least || took > test.most {
				t.Errorf("code %d after %v", got.ExitCode, took)
			}
		})
	}
}

func TestLogSplitsLongLines(t *testing.T) {
	r, _ := newNode(t)
	s := sandboxOf(t, r, pod("web"))
	c, _ := runToEnd(t, r, s, shell("c", `echo out; echo err >&2; head -c 20000 /dev/zero | tr '\0' x; echo; printf rest`))
	text, err := os.ReadFile(c.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	shape := map[string]string{} // by stream: they are read independently
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		text := fields[3]
		if len(text) > 10 {
			text = strconv.Itoa(len(text))
		}
		shape[fields[1]] += fields[2] + " " + text + "|"
	}
	want := map[string]string{"stdout": "F out|P 16384|F 3616|F rest|", "stderr": "F err|"}
	if diff := cmp.Diff(want, shape); diff != "" {
		t.Error(diff)
	}
	if path := filepath.Join("default_web_uid-of-web", "c", "0.log"); !strings.HasSuffix(c.LogPath, path) {
		t.Errorf("log at %s", c.LogPath)
	}
}

func TestLogOfAFloodIsRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	log, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	flood := strings.Repeat(strings.Repeat("x", 99)+"\n", 250_000) // 25 MB
	log.copy("stdout", strings.NewReader(flood))
	for _, p := range []string{path, rotatedLog(path)} {
		info, err := os.Stat(p)
		if err != nil || info.Size() > maxLog || info.Size() == 0 {
			t.Errorf("%s: %v %v", p, info, err)
		}
	}
}

// ownCapabilities is what root has on this machine, which may be less than all.
func ownCapabilities(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "CapEff:")
	return strings.Fields(after)[0]
}

func TestSecurityContext(t *testing.T) {
	r, _ := newNode(t)
	s := sandboxOf(t, r, pod("web"))
	user, group := int64(1000), int64(2000)
	const status = `grep -E '^(Uid|Gid|Groups|CapPrm|CapEff|CapBnd|CapInh|CapAmb|NoNewPrivs):' /proc/self/status | tr '\t' ' '`
	tests := []struct {
		name     string
		security Security
		want     []string
	}{
		{"default", Security{}, []string{"Uid: 0 0 0 0", "CapEff: 00000000a80425fb", "CapBnd: 00000000a80425fb", "CapInh: 0000000000000000", "NoNewPrivs: 0"}},
		{"a user", Security{User: &user, Group: &group, SupplementalGroups: []int64{3000, 3001}, NoNewPrivileges: true}, []string{
			"Uid: 1000 1000 1000 1000", "Gid: 2000 2000 2000 2000", "Groups: 3000 3001", "CapEff: 0000000000000000",
			"CapPrm: 0000000000000000", "CapAmb: 0000000000000000", "CapBnd: 00000000a80425fb", "NoNewPrivs: 1",
		}},
		{
			"drop all, add some",
			Security{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_ADMIN", "BPF"}},
			[]string{"CapEff: 0000008000001000", "CapBnd: 0000008000001000"},
		},
		{"privileged", Security{Privileged: true}, []string{"CapEff: " + ownCapabilities(t)}},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := shell("c", status+"; exec sleep 1000")
			c.Attempt, c.Security = i, test.security
			started := start(t, r, s, c)
			_, inExec, errs := execIn(t, r, started.ID, ExecIO{}, "sh", "-c", status)
			inExec += errs
			for _, want := range test.want {
				if !strings.Contains(logText(t, started), want) {
					t.Errorf("%q is not in\n%s", want, logText(t, started))
				}
				if !strings.Contains(inExec, want) {
					t.Errorf("exec: %q is not in\n%s", want, inExec)
				}
			}
		})
	}
	if _, err := r.StartContainer(context.Background(), s.ID, ContainerConfig{
		Name: "c", Image: "busybox", Security: Security{AddCapabilities: []string{"FLY"}},
	}); err == nil {
		t.Error("an unknown capability was accepted")
	}
}

func TestRootOfAContainer(t *testing.T) {
	r, cfg := newNode(t)
	s := sandboxOf(t, r, pod("web"))
	volume := filepath.Join(filepath.Dir(cfg.Dir), "volume")
	if err := os.MkdirAll(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	const try = `for f in /x /tmp/x /run/x /var/run/secrets/x /ro/x /usr/x /proc/sys/vm/swappiness /sys/x; do
		(echo 60 >$f) 2>/dev/null && echo "$f yes" || echo "$f no"; done; stat -c %a /tmp; cat /etc/hosts; pwd; head -1 /proc/1/cmdline | tr '\0' ' '`
	c := shell("c", try)
	c.WorkingDir = "/made/here"
	c.Files = map[string]string{"/etc/hosts": "127.0.0.1 web\n"}
	c.Mounts = []Mount{{Source: volume, Target: "/var/run/secrets"}, {Source: volume, Target: "/ro", ReadOnly: true}}
	_, out := runToEnd(t, r, s, c)
	want := "/x yes\n/tmp/x yes\n/run/x yes\n/var/run/secrets/x yes\n/ro/x no\n/usr/x no\n" +
		"/proc/sys/vm/swappiness no\n/sys/x no\n1777\n127.0.0.1 web\n/made/here\nsh -c for f in"
	if !strings.HasPrefix(out, want) {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	c.Security.ReadOnlyRoot, c.Attempt = true, 1
	_, out = runToEnd(t, r, s, c)
	want = "/x no\n/tmp/x no\n/run/x no\n/var/run/secrets/x yes\n/ro/x no\n"
	if !strings.HasPrefix(out, want) {
		t.Errorf("read-only root: got\n%s\nwant\n%s", out, want)
	}
}

func TestExec(t *testing.T) {
	r, _ := newNode(t)
	s := sandboxOf(t, r, pod("web"))
	c := shell("c", "exec sleep 1000")
	c.Env, c.WorkingDir = []string{"COLOUR=green", "PATH=/bin"}, "/tmp"
	id := start(t, r, s, c).ID
	tests := []struct {
		name           string
		cmd            []string
		streams        ExecIO
		code           int
		stdout, stderr string
	}{
		{name: "output and code", cmd: []string{"sh", "-c", "echo $COLOUR; pwd; echo oops >&2; exit 9"}, code: 9, stdout: "green\n/tmp\n", stderr: "oops\n"},
		{name: "input", cmd: []string{"tr", "a-z", "A-Z"}, streams: ExecIO{Stdin: strings.NewReader("hello")}, stdout: "HELLO"},
		{name: "the container's own processes", cmd: []string{"cat", "/proc/1/comm"}, stdout: "sleep\n"},
		{name: "not found", cmd: []string{"nonsense"}, code: 127, stderr: "exec: \"nonsense\": executable file not found in $PATH\n"},
		{name: "killed", cmd: []string{"sh", "-c", "kill -9 $$"}, code: 137},
		{name: "leaves a process", cmd: []string{"sh", "-c", "sleep 1000 & echo started"}, stdout: "started\n"},
		{name: "a terminal", cmd: []string{"sh", "-c", "tty; exit 3"}, streams: ExecIO{TTY: true}, code: 3, stdout: "/dev/pts/0\r\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := execIn(t, r, id, test.streams, test.cmd...)
			if code != test.code || stdout != test.stdout || stderr != test.stderr {
				t.Errorf("code %d, stdout %q, stderr %q", code, stdout, stderr)
			}
		})
	}
}

func TestNoDescriptorIsInherited(t *testing.T) {
	r, _ := newNode(t)
	extra, err := unix.Dup(1) // open in every child of this process
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(extra) }()
	id := start(t, r, sandboxOf(t, r, pod("web")), shell("c", "exec sleep 1000")).ID
	// The fourth is the folder that ls reads.
	if _, out, _ := execIn(t, r, id, ExecIO{}, "sh", "-c", "ls /proc/1/fd; exec ls /proc/self/fd"); out != "0\n1\n2\n0\n1\n2\n3\n" {
		t.Errorf("open: %q", out)
	}
}

func TestExecOnATerminalIsResizedAndFed(t *testing.T) {
	r, _ := newNode(t)
	id := start(t, r, sandboxOf(t, r, pod("web")), shell("c", "exec sleep 1000")).ID
	in, keys := io.Pipe()
	sizes := make(chan TermSize, 1)
	sizes <- TermSize{Width: 132, Height: 43}
	go func() {
		time.Sleep(300 * time.Millisecond)
		_, _ = io.WriteString(keys, "stty size; exit 6\n")
	}()
	code, out, _ := execIn(t, r, id, ExecIO{Stdin: in, TTY: true, Resize: sizes}, "sh")
	if code != 6 || !strings.Contains(out, "43 132\r\n") {
		t.Errorf("code %d, output %q", code, out)
	}
}

func TestExecEndsWithItsContextAndWithItsContainer(t *testing.T) {
	r, _ := newNode(t)
	s := sandboxOf(t, r, pod("web"))
	id := start(t, r, s, shell("c", "exec sleep 1000")).ID
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err := r.Exec(ctx, id, []string{"sleep", "4242"}, ExecIO{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if _, out, _ := execIn(t, r, id, ExecIO{}, "ps"); strings.Contains(out, "4242") {
		t.Errorf("still running:\n%s", out)
	}
	go func() {
		time.Sleep(200 * time.Millisecond)
		_ = r.StopSandbox(context.Background(), s.ID)
	}()
	if code, _, _ := execIn(t, r, id, ExecIO{}, "sleep", "1000"); code != 137 {
		t.Errorf("code %d", code)
	}
	if _, err := r.Exec(context.Background(), id, []string{"true"}, ExecIO{}); err == nil {
		t.Error("exec in an exited container")
	}
}

func TestContainerWithATerminal(t *testing.T) {
	r, _ := newNode(t)
	c := shell("c", "tty; test -t 0 && echo terminal")
	c.TTY, c.Stdin = true, true
	_, out := runToEnd(t, r, sandboxOf(t, r, pod("web")), c)
	if out != "/dev/pts/0\r\nterminal\r\n" {
		t.Errorf("%q", out)
	}
}

func TestImages(t *testing.T) {
	r, _ := newNode(t)
	s := sandboxOf(t, r, pod("web"))
	for _, name := range []string{"agnhost", "registry.k8s.io/e2e-test-images/agnhost:2.53", "host:5000/busybox@sha256:0123"} {
		if err := r.CheckImage(name); err != nil {
			t.Error(err)
		}
	}
	_, err := r.StartContainer(context.Background(), s.ID, ContainerConfig{Name: "c", Image: "nginx:1.27"})
	if !errors.Is(err, ErrImage) || !strings.Contains(err.Error(), "agnhost, busybox, coredns") {
		t.Errorf("unknown image: %v", err)
	}
	if err := r.CheckImage("coredns"); !errors.Is(err, ErrImage) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("program not there: %v", err)
	}
	started := start(t, r, s, ContainerConfig{Name: "c", Image: "agnhost:2", Args: []string{"netexec", "--http-port=80"}})
	for logText(t, started) == "" {
		time.Sleep(10 * time.Millisecond)
	}
	if got := logText(t, started); got != "agnhost called with [netexec --http-port=80]\n" {
		t.Errorf("%q", got)
	}
	if err := r.StopContainer(context.Background(), started.ID, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if c := awaitExit(t, r, started.ID); c.ExitCode != 0 {
		t.Errorf("%+v", c)
	}
}
