package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// process is another process, held by a descriptor so that its number cannot
// come to mean a different one.
type process struct{ file *os.File }

// openProcess opens the process pid that started at the given time (in clock
// ticks, see startTime). It returns os.ErrProcessDone if that one is gone.
func openProcess(pid int, start uint64) (process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return process{}, os.ErrProcessDone
	}
	if err != nil {
		return process{}, fmt.Errorf("open process %d: %w", pid, err)
	}
	p := process{os.NewFile(uintptr(fd), "pidfd")}
	// Asked only now: from here on the descriptor keeps the number's meaning.
	if now, err := startTime(pid); err != nil || now != start {
		p.close()
		return process{}, os.ErrProcessDone
	}
	return p, nil
}

func (p process) close() { _ = p.file.Close() } // a descriptor without data

// signal sends sig; a process that is gone is fine.
func (p process) signal(sig unix.Signal) error {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return err
	}
	if sent != nil && !errors.Is(sent, unix.ESRCH) {
		return fmt.Errorf("send %s: %w", unix.SignalName(sig), sent)
	}
	return nil
}

// wait returns when the process has ended, or with the context's error.
func (p process) wait(ctx context.Context) error {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.file.SetReadDeadline(time.Now()) })
	defer stop()
	err = conn.Read(func(fd uintptr) bool {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(polled, 0)
		return err == nil && n > 0
	})
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// startTime is when the process started, in clock ticks since the machine did.
func startTime(pid int) (uint64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses, and may hold
	// anything; the start time is the 22nd, hence the 20th after it.
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return 0, fmt.Errorf("read the start of process %d: %q", pid, text)
	}
	fields := bytes.Fields(text[end+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("read the start of process %d: %q", pid, text)
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}
