package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/pkg/desired"
)

// The programs' exit status when they did not get the lock, or memory.
const exitResource = 4

// maxMessage is how much of what a program says goes into an error.
const maxMessage = 1000

var failedLine = regexp.MustCompile(`(?i)\bline:? (\d+)`)

// programs are the paths of a backend's programs.
type programs struct{ restore4, save4, restore6, save6 string }

func (p programs) restore(f desired.Family) string {
	if f == desired.IPv6 {
		return p.restore6
	}
	return p.restore4
}

func (p programs) save(f desired.Family) string {
	if f == desired.IPv6 {
		return p.save6
	}
	return p.save4
}

// installed are the programs of the backends that this node has.
func installed() map[string]programs {
	found := map[string]programs{}
	for _, backend := range []string{BackendLegacy, BackendNFT} {
		path := func(name string) string {
			p, err := exec.LookPath(name)
			if err != nil {
				return ""
			}
			return p
		}
		p := programs{
			restore4: path("iptables-" + backend + "-restore"), save4: path("iptables-" + backend + "-save"),
			restore6: path("ip6tables-" + backend + "-restore"), save6: path("ip6tables-" + backend + "-save"),
		}
		if p.restore4 != "" && p.save4 != "" {
			found[backend] = p
		}
	}
	return found
}

// programError is a program that failed.
type programError struct {
	program, message string
	status           int
	err              error // of the process; or what is known of the cause
}

func (e *programError) Error() string {
	text := e.program + ": " + e.err.Error()
	if e.message != "" {
		text += ": " + e.message
	}
	return text
}

func (e *programError) Unwrap() error { return e.err }

// run runs a program and gives what it prints. It is killed when ctx ends.
func (s *System) run(ctx context.Context, path string, stdin []byte, args ...string) ([]byte, error) {
	if path == "" {
		return nil, errors.New("a program of iptables is not installed: those of both families are needed")
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin = bytes.NewReader(stdin)
	// What a killed program's own children hold open is not waited for.
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err == nil {
		return stdout.Bytes(), nil
	}
	e := &programError{program: path[strings.LastIndexByte(path, '/')+1:], message: bounded(stderr.String()), err: err}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		e.status = exit.ExitCode()
	}
	switch {
	case ctx.Err() != nil:
		e.err = ctx.Err()
	case e.status == exitResource && strings.Contains(e.message, "xtables lock"):
		e.err = fmt.Errorf("%w, for %d s", ErrLocked, s.lockSeconds())
	case strings.Contains(e.message, "Operation not permitted"), strings.Contains(e.message, "Permission denied"):
		e.err = ErrBlocked
		if !hasNetAdmin() {
			e.err = errors.New("this process lacks the capability NET_ADMIN")
		}
	case strings.Contains(e.message, "can't open lock file"):
		e.err = errors.New("the xtables lock cannot be opened: /run/xtables.lock of the node is needed")
	}
	return nil, e
}

// hasNetAdmin tells whether this thread could write rules if nothing else kept it
// from that.
func hasNetAdmin() bool {
	b, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if set, ok := strings.CutPrefix(line, "CapEff:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(set), 16, 64)
			return err == nil && n&(1<<unix.CAP_NET_ADMIN) != 0
		}
	}
	return false
}

// bounded is the beginning of what a program says, on one line.
func bounded(text string) string {
	var parts []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "Try `") && !strings.HasPrefix(line, "# Warning: ") {
			parts = append(parts, line)
		}
	}
	text = strings.Join(parts, "; ")
	if len(text) > maxMessage {
		text = text[:maxMessage] + "…"
	}
	return text
}

func (s *System) lockSeconds() int { return int((s.cfg.LockTimeout + time.Second - 1) / time.Second) }

// Restore implements Kernel.
func (s *System) Restore(ctx context.Context, f desired.Family, script []byte) error {
	if f == desired.IPv6 && !s.info.IPv6 {
		return fmt.Errorf("rules of IPv6 cannot be written: %s", s.info.NoIPv6)
	}
	return s.restore(ctx, s.info.Backend, f, script)
}

func (s *System) restore(ctx context.Context, backend string, f desired.Family, script []byte) error {
	path := s.programs[backend].restore(f)
	_, err := s.run(ctx, path, script, "--noflush", "-w", strconv.Itoa(s.lockSeconds()))
	var failed *programError
	if errors.As(err, &failed) {
		if line := quoted(failed.message, script); line != "" {
			return fmt.Errorf("%w; %s", err, line)
		}
	}
	return err
}

// quoted is the line of the script that the program complains about. For what is
// found when a table is committed, that is the line that does so.
func quoted(message string, script []byte) string {
	match := failedLine.FindStringSubmatch(message)
	if match == nil {
		return ""
	}
	n, err := strconv.Atoi(match[1])
	if err != nil || n < 1 {
		return ""
	}
	for line := range bytes.Lines(script) {
		if n--; n == 0 {
			return fmt.Sprintf("line %s is %q", match[1], bounded(string(line)))
		}
	}
	return ""
}
