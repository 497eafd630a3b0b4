package labtest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/test/lab/netprobe"
	"github.com/overland-net/overland/test/lab/ns"
)

func TestTargetsAreOfTheFormThatNetprobeReads(t *testing.T) {
	for _, tt := range []struct {
		got, want string
	}{
		{Target("tcp", "10.0.0.1", 80), "tcp://10.0.0.1:80"},
		{Target("udp", "fd00::1", 80, "size=60000", "family=6"), "udp://[fd00::1]:80?size=60000&family=6"},
		{Target("icmp", "fd00::1", 0), "icmp://[fd00::1]"},
		{Target("icmp", "10.0.0.1", 0), "icmp://10.0.0.1"},
		{Target("sctp", "web.default", 80), "sctp://web.default:80"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
		if _, err := netprobe.ParseTarget(tt.got); err != nil {
			t.Error(err)
		}
	}
}

func TestWantTellsWhatDiffers(t *testing.T) {
	seen := netip.MustParseAddr("10.1.1.10")
	answered := netprobe.Result{OK: true, Server: "web", Source: netip.AddrPortFrom(seen, 1234), Bytes: 100, Milliseconds: 5}
	timedOut := netprobe.Result{Kind: netprobe.KindTimeout, Error: "i/o timeout"}
	for _, tt := range []struct {
		name   string
		want   Want
		result netprobe.Result
		says   string // a part of what is said; empty if it is as wanted
	}{
		{"an answer", Want{}, answered, ""},
		{"an answer in all details", Want{Source: seen, Server: "web", Bytes: 100, AtLeast: time.Millisecond}, answered, ""},
		{"no answer", Want{}, timedOut, "i/o timeout"},
		{"another source", Want{Source: netip.MustParseAddr("10.1.1.11")}, answered, "saw 10.1.1.10, not 10.1.1.11"},
		{"another server", Want{Server: "db"}, answered, "web answered, not db"},
		{"another size", Want{Bytes: 99}, answered, "100 bytes"},
		{"too fast", Want{AtLeast: 10 * time.Millisecond}, answered, "less than 10ms"},
		{"the failure", Want{Kind: netprobe.KindTimeout}, timedOut, ""},
		{"any failure", Want{Fails: true}, timedOut, ""},
		{"another failure", Want{Kind: netprobe.KindRefused}, timedOut, "expected refused, got timeout"},
		{"an answer instead of the failure", Want{Kind: netprobe.KindTimeout}, answered, "expected timeout, but web answered"},
		{"an answer instead of any failure", Want{Fails: true}, answered, "expected a failure, but web answered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.want.mismatch(tt.result)
			if tt.says == "" && got != "" || !strings.Contains(got, tt.says) {
				t.Errorf("got %q, want %q", got, tt.says)
			}
		})
	}
}

// fake is a place from which every probe of an address with an odd last digit
// is answered.
func fake(name string) Source {
	return Source{name: name, probe: func(_ context.Context, args []string) (Output, error) {
		if name == "nowhere" {
			return Output{}, errors.New("no such place")
		}
		var b strings.Builder
		for _, target := range args[5:] {
			odd := strings.ContainsAny(target[len(target)-1:], "13579")
			fmt.Fprintf(&b, `{"target":%q,"ok":%v,"kind":"timeout","server":"s"}`+"\n", target, odd)
		}
		return Output{Stdout: b.String()}, nil
	}}
}

func TestProbesOfManyPlacesAreComparedEachWithItsOwnResult(t *testing.T) {
	var probes []Probe
	for i := range 9 {
		for _, from := range []string{"here", "there"} {
			p := Probe{From: fake(from), To: fmt.Sprintf("icmp://10.0.0.%d", i)}
			p.Want.Fails = i%2 == 0
			probes = append(probes, p)
		}
	}
	if failures := attempt(t.Context(), probes, time.Second); len(failures) > 0 {
		t.Errorf("all are as expected, but it says\n%s", table(failures))
	}
	probes[2].Want.Fails = true
	probes = append(probes, Probe{From: fake("nowhere"), To: "icmp://10.0.0.1"})
	got := table(attempt(t.Context(), probes, time.Second))
	if strings.Count(got, "\n") != 2 || !strings.Contains(got, "here") || !strings.Contains(got, "expected a failure, but s answered") ||
		!strings.Contains(got, "no such place") {
		t.Errorf("expected two failures, got\n%s", got)
	}
}

func TestManifestsOfSeveralDocumentsAreRead(t *testing.T) {
	objects, err := parse("---\nkind: A\napiVersion: v1\nmetadata: {name: a}\n---\n# only a comment\n---\n{kind: B, apiVersion: v1, metadata: {name: b}}\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) != 2 || objects[0].GetName() != "a" || objects[1].GetKind() != "B" {
		t.Errorf("got %v", objects)
	}
	if _, err := parse("kind: [unclosed"); err == nil {
		t.Error("what is not YAML should be an error")
	}
	if _, err := parse("a: b"); err == nil {
		t.Error("what is no object should be an error")
	}
}

// fakeLab is a program that notes how it is called, in place of the lab's.
func fakeLab(t *testing.T) (program, calls string) {
	t.Helper()
	folder := t.TempDir()
	program, calls = filepath.Join(folder, "lab"), filepath.Join(folder, "calls")
	script := "#!/bin/sh\necho \"$3\" >>" + calls + "\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return program, calls
}

func readCalls(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

func TestTheWatchdogTakesTheLabDownWhenTheTestsVanish(t *testing.T) {
	program, calls := fakeLab(t)
	own := &ownLab{folder: t.TempDir(), dir: "/nonexistent", program: program}
	if err := own.watch(); err != nil {
		t.Fatal(err)
	}
	if err := own.alive.Close(); err != nil { // as the kernel does for a process that is gone
		t.Fatal(err)
	}
	if err := own.watchdog.Wait(); err != nil {
		t.Error(err)
	}
	if got := readCalls(t, calls); got != "down down" {
		t.Errorf("the lab's program was called for %q", got)
	}
}

func TestTheWatchdogLeavesALabAloneThatWasTakenDown(t *testing.T) {
	program, calls := fakeLab(t)
	own := &ownLab{folder: t.TempDir(), dir: "/nonexistent", program: program}
	if err := own.start([]string{"--nodes", "1"}); err != nil {
		t.Fatal(err)
	}
	if err := own.end(); err != nil {
		t.Error(err)
	}
	if got := readCalls(t, calls); got != "up down" {
		t.Errorf("the lab's program was called for %q", got)
	}
	if _, err := os.Stat(own.folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lab's folder is still there: %v", err)
	}
}

func TestAnExitStatusIsNoErrorAndAMissingProgramIs(t *testing.T) {
	out, err := run(exec.Command("/bin/sh", "-c", "echo out; echo err >&2; exit 3"), ns.Set{})
	if err != nil || out != (Output{Stdout: "out\n", Stderr: "err\n", Code: 3}) {
		t.Errorf("got %v, %v", out, err)
	}
	if _, err := run(exec.Command("/nonexistent"), ns.Set{}); err == nil {
		t.Error("a missing program should be an error")
	}
	if _, err := run(exec.Command("/bin/sh", "-c", "kill -9 $$"), ns.Set{}); err == nil {
		t.Error("a killed program should be an error")
	}
}
