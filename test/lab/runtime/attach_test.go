package runtime

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"
)

func TestAttachFeedsTheContainerAndEndsWithIt(t *testing.T) {
	r, _ := newNode(t)
	c := shell("c", "cat; echo end >&2; exit 3")
	c.Stdin, c.StdinOnce = true, true
	id := start(t, r, sandboxOf(t, r, pod("web")), c).ID
	text := strings.Repeat("0123456789abcde\n", 1<<13) // 128 KiB: several frames
	var out, errs bytes.Buffer
	streams := ExecIO{Stdin: strings.NewReader(text), Stdout: &out, Stderr: &errs}
	if err := r.Attach(context.Background(), id, streams); err != nil {
		t.Fatal(err)
	}
	if out.String() != text || errs.String() != "end\n" {
		t.Errorf("%d of %d bytes, errors %q", out.Len(), len(text), errs.String())
	}
	if got := awaitExit(t, r, id); got.ExitCode != 3 {
		t.Errorf("code %d", got.ExitCode)
	}
	if err := r.Attach(context.Background(), id, streams); err == nil {
		t.Error("attached to an exited container")
	}
}

func TestAttachOnATerminalIsResizedAndFed(t *testing.T) {
	r, _ := newNode(t)
	c := shell("c", "exec sh -i")
	c.Stdin, c.TTY = true, true
	id := start(t, r, sandboxOf(t, r, pod("web")), c).ID
	in, keys := io.Pipe()
	sizes := make(chan TermSize, 1)
	sizes <- TermSize{Width: 132, Height: 43}
	go func() {
		time.Sleep(300 * time.Millisecond)
		_, _ = io.WriteString(keys, "stty size; exit 6\n")
	}()
	var out bytes.Buffer
	if err := r.Attach(context.Background(), id, ExecIO{Stdin: in, Stdout: &out, TTY: true, Resize: sizes}); err != nil {
		t.Fatal(err)
	}
	if got := awaitExit(t, r, id); got.ExitCode != 6 || !strings.Contains(out.String(), "43 132\r\n") {
		t.Errorf("code %d, output %q", got.ExitCode, out.String())
	}
}

func TestClientsComeAndGoWithoutTheContainer(t *testing.T) {
	r, _ := newNode(t)
	c := shell("c", "while read line; do echo got $line; done")
	c.Stdin = true
	id := start(t, r, sandboxOf(t, r, pod("web")), c).ID
	for _, word := range []string{"one", "two"} {
		ctx, cancel := context.WithCancel(context.Background())
		out, seen := io.Pipe()
		done := make(chan error, 1)
		go func() {
			done <- r.Attach(ctx, id, ExecIO{Stdin: strings.NewReader(word + "\n"), Stdout: seen})
		}()
		line := make([]byte, len("got "+word+"\n"))
		if _, err := io.ReadFull(out, line); err != nil || string(line) != "got "+word+"\n" {
			t.Errorf("%q, %v", line, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("after the client went: %v", err)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{frameStdin, 0, 0, 0, 2, 'h', 'i'})
	f.Add([]byte{frameStdout, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		kind, body, err := readFrame(bytes.NewReader(data))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeFrame(&again, kind, body); err != nil || !bytes.HasPrefix(data, again.Bytes()) {
			t.Errorf("%q, %v", again.Bytes(), err)
		}
	})
}
