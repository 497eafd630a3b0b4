package daemon

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

func quiet() *logrus.Entry {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return logrus.NewEntry(logger)
}

// script is a component that runs shell code; it is ended with the test.
func script(t *testing.T, text string) *component {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root: enters namespaces")
	}
	c := &component{
		name: "west/script", argv: []string{"/bin/sh", "-c", text}, env: []string{"PATH=/usr/bin:/bin"},
		logPath: filepath.Join(t.TempDir(), "log", "script.log"), log: quiet(),
	}
	t.Cleanup(func() {
		if err := c.stop(0); err != nil {
			t.Error(err)
		}
	})
	return c
}

func mustStart(t *testing.T, c *component) {
	t.Helper()
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain waited until %s", what)
		}
	}
}

func alive(pid int) bool { return unix.Kill(pid, 0) == nil }

func TestAComponentRunsUntilItIsStopped(t *testing.T) {
	c := script(t, "echo hello; exec sleep 60")
	if s := c.status(); s.State != "stopped" || s.PID != 0 || s.Name != "west/script" {
		t.Errorf("before the start: %+v", s)
	}
	mustStart(t, c)
	s := c.status()
	if s.State != "running" || s.Restarts != 0 || !alive(s.PID) {
		t.Errorf("after the start: %+v", s)
	}
	mustStart(t, c) // is fine
	if again := c.status(); again.PID != s.PID {
		t.Errorf("a second start made process %d of %d", again.PID, s.PID)
	}
	eventually(t, "the program's output is in its log", func() bool {
		text, err := os.ReadFile(s.Log)
		return err == nil && string(text) == "hello\n"
	})
	for range 2 { // stopping twice is fine
		if err := c.stop(stopGrace); err != nil {
			t.Fatal(err)
		}
	}
	if now := c.status(); now.State != "stopped" || now.PID != 0 || now.Last != "signal: terminated" || alive(s.PID) {
		t.Errorf("after the stop: %+v", now)
	}
}

func TestAComponentThatEndsIsStartedAgainAndCounted(t *testing.T) {
	tests := []struct {
		name, script, last string
		signal             unix.Signal
	}{
		{"killed", "exec sleep 60", "signal: killed", unix.SIGKILL},
		{"failed", "exit 3", "exit status 3", 0},
		{"done", "exit 0", "exit status 0", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := script(t, tt.script)
			mustStart(t, c)
			first := c.status().PID
			if tt.signal != 0 {
				if err := unix.Kill(first, tt.signal); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "it is waiting for its restart", func() bool { return c.status().State == "restarting" })
			if s := c.status(); s.Last != tt.last || s.PID != 0 {
				t.Errorf("between two runs: %+v, want last %q", s, tt.last)
			}
			eventually(t, "it has been restarted", func() bool { return c.status().Restarts == 1 })
		})
	}
}

func TestAStoppedComponentIsNotStartedAgain(t *testing.T) {
	c := script(t, "exit 1")
	mustStart(t, c)
	eventually(t, "it is waiting for its restart", func() bool { return c.status().State == "restarting" })
	began := time.Now()
	if err := c.stop(stopGrace); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > restartDelay/2 {
		t.Errorf("stopping a component that is not running took %s", took)
	}
	if s := c.status(); s.State != "stopped" || s.Last != "exit status 1" {
		t.Errorf("after the stop: %+v", s)
	}
	mustStart(t, c)
	if s := c.status(); s.State == "stopped" || s.Restarts != 0 || s.Last != "" {
		t.Errorf("a new start does not begin anew: %+v", s)
	}
}

func TestAComponentThatIgnoresTheWarningIsKilledAfterItsGrace(t *testing.T) {
	c := script(t, `trap "" TERM; echo ready; while :; do sleep 1; done`)
	mustStart(t, c)
	eventually(t, "it ignores SIGTERM", func() bool {
		text, err := os.ReadFile(c.logPath)
		return err == nil && string(text) == "ready\n"
	})
	if err := c.stop(50 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if s := c.status(); s.State != "stopped" || s.Last != "signal: killed" {
		t.Errorf("after the stop: %+v", s)
	}
}

func TestWithoutGraceThereIsNoWarning(t *testing.T) {
	c := script(t, `trap "echo warned" TERM; echo ready; while :; do sleep 0.01; done`)
	mustStart(t, c)
	eventually(t, "it is ready", func() bool {
		text, err := os.ReadFile(c.logPath)
		return err == nil && string(text) == "ready\n"
	})
	if err := c.stop(0); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(c.logPath)
	if s := c.status(); err != nil || s.Last != "signal: killed" || strings.Contains(string(text), "warned") {
		t.Errorf("after the stop: %+v, log %q, %v", s, text, err)
	}
}

func TestAProgramThatCannotBeStartedIsAnError(t *testing.T) {
	c := script(t, "")
	c.argv = []string{"/no/such/program"}
	err := c.start()
	if err == nil || !strings.Contains(err.Error(), "start west/script: start /no/such/program: ") {
		t.Errorf("got %v", err)
	}
	if s := c.status(); s.State != "stopped" {
		t.Errorf("after the failure: %+v", s)
	}
}

func TestStartsAndStopsAtOnceLeaveOneProcessOrNone(t *testing.T) {
	// SIGTERM takes effect only after a while, so that stops and starts meet.
	c := script(t, `trap "sleep 0.05; exit" TERM; while :; do sleep 0.01; done`)
	var group sync.WaitGroup
	for i := range 12 {
		group.Go(func() {
			var err error
			if i%2 == 0 {
				err = c.start()
			} else {
				err = c.stop(stopGrace)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if err := c.stop(stopGrace); err != nil {
		t.Fatal(err)
	}
	mustStart(t, c)
	first := c.status().PID
	// Had an earlier loop survived, it would start the program once more.
	time.Sleep(restartDelay + restartDelay/2)
	if s := c.status(); s.State != "running" || s.PID != first || s.Restarts != 0 {
		t.Errorf("after all: %+v, process %d expected", s, first)
	}
}

func TestHealthyWaitsUntilTheEndpointAnswers(t *testing.T) {
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls++; calls < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	c := script(t, "")
	c.healthz = server.URL
	if err := c.healthy(context.Background()); err != nil || calls != 3 {
		t.Errorf("got %v after %d calls", err, calls)
	}
}

func TestHealthyTellsOfTheLogWhenItGivesUp(t *testing.T) {
	tests := []struct {
		name    string
		status  int
		guarded bool
		want    string // empty: healthy
	}{
		{"well", http.StatusOK, false, ""},
		{"failing", http.StatusInternalServerError, false, "status 500"},
		{"refusing, guarded", http.StatusUnauthorized, true, ""},
		{"forbidding, guarded", http.StatusForbidden, true, ""},
		{"refusing, not guarded", http.StatusUnauthorized, false, "status 401"},
		{"failing, guarded", http.StatusInternalServerError, true, "status 500"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
			}))
			defer server.Close()
			c := script(t, "")
			c.healthz, c.guarded = server.URL, tt.guarded
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			err := c.healthy(ctx)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), c.logPath) {
				t.Errorf("want %q and the log's path, got %v", tt.want, err)
			}
		})
	}
}
