// Package state is the folder in which a lab keeps everything that it has on
// the machine's disk, and the record of the one process that holds the rest:
// where its files are, whether the lab lives, and how it is ended. It may
// import nothing of this repository.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is the state folder of a lab, an absolute path.
type Dir string

// mark is a file that tells a lab's folder from any other one, so that a wrong
// --state can never remove somebody's files.
const mark = ".overland-lab"

// Bin is the folder of the lab's programs.
func (d Dir) Bin() string { return filepath.Join(string(d), "bin") }

// Socket is the daemon's socket. Its path may be too long to be dialled.
func (d Dir) Socket() string { return filepath.Join(string(d), "lab.sock") }

// Options is the file of the lab's options.
func (d Dir) Options() string { return filepath.Join(string(d), "options.json") }

// Log is the log of a program, named as its component is, or of the daemon.
func (d Dir) Log(name string) string { return filepath.Join(string(d), "log", name+".log") }

// Cluster is the folder of a control plane: keys, kubeconfig, etcd's data.
func (d Dir) Cluster(name string) string { return filepath.Join(string(d), "clusters", name) }

// Node is the folder of a node's disk.
func (d Dir) Node(cluster, node string) string {
	return filepath.Join(string(d), "nodes", cluster, node)
}
func (d Dir) record() string { return filepath.Join(string(d), "init.json") }

// Refuse is an error if the folder has files but is not a lab's.
func (d Dir) Refuse() error {
	entries, err := os.ReadDir(string(d))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("state folder: %w", err)
	}
	if len(entries) > 0 && !d.marked() {
		return fmt.Errorf("state folder %s: it has files that are not a lab's; name an empty or a new one", d)
	}
	return nil
}

// Create makes the folder, if need be, and marks it. A folder that has files
// but no mark is refused.
func (d Dir) Create() error {
	if err := d.Refuse(); err != nil {
		return err
	}
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	text := "This folder belongs to an Overland lab, which removes it when it goes down.\n"
	if err := os.WriteFile(filepath.Join(string(d), mark), []byte(text), 0o644); err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	return nil
}

// Exists reports whether the folder is a lab's.
func (d Dir) Exists() bool { return d.marked() }

func (d Dir) marked() bool {
	_, err := os.Stat(filepath.Join(string(d), mark))
	return err == nil
}

// Remove removes the folder and all that is in it. An absent folder is fine;
// one that is not a lab's is an error.
func (d Dir) Remove() error {
	if _, err := os.Lstat(string(d)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if !d.marked() {
		return fmt.Errorf("state folder %s is not a lab's: not removed", d)
	}
	// The mark goes last, so that an interrupted removal can be taken up again.
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return fmt.Errorf("remove state folder: %w", err)
	}
	for _, e := range entries {
		if e.Name() == mark {
			continue
		}
		if err := os.RemoveAll(filepath.Join(string(d), e.Name())); err != nil {
			return fmt.Errorf("remove state folder: %w", err)
		}
	}
	if err := os.RemoveAll(string(d)); err != nil {
		return fmt.Errorf("remove state folder: %w", err)
	}
	return nil
}

// Process is a process of this machine, told from a later one of the same
// number by when it started.
type Process struct {
	PID int `json:"pid"`
	// Start is the process's start time in clock ticks after the boot named by
	// Boot: field 22 of /proc/PID/stat.
	Start uint64 `json:"start"`
	Boot  string `json:"boot"`
}

// Self is the calling process as the given mount point of proc shows it.
func Self(proc string) (Process, error) {
	text, err := os.Readlink(filepath.Join(proc, "self"))
	if err != nil {
		return Process{}, fmt.Errorf("find own process id: %w", err)
	}
	pid, err := strconv.Atoi(text)
	if err != nil {
		return Process{}, fmt.Errorf("find own process id: %w", err)
	}
	start, err := startTime(proc, pid)
	if err != nil {
		return Process{}, err
	}
	boot, err := bootID()
	return Process{PID: pid, Start: start, Boot: boot}, err
}

func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// startTime reads field 22 of /proc/PID/stat; the second field, in
// parentheses, may have blanks in it.
func startTime(proc string, pid int) (uint64, error) {
	text, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, fmt.Errorf("read start time: %w", err)
	}
	_, rest, ok := strings.Cut(string(text[max(0, strings.LastIndexByte(string(text), ')')):]), " ")
	fields := strings.Fields(rest)
	// The rest begins with field 3.
	if !ok || len(fields) < 20 {
		return 0, fmt.Errorf("read start time of process %d: unexpected form %q", pid, text)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// Record writes down the lab's first process.
func (d Dir) Record(p Process) error {
	text, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("record the lab's process: %w", err)
	}
	next := d.record() + ".next"
	if err := os.WriteFile(next, text, 0o644); err != nil {
		return fmt.Errorf("record the lab's process: %w", err)
	}
	if err := os.Rename(next, d.record()); err != nil {
		return fmt.Errorf("record the lab's process: %w", err)
	}
	return nil
}

// Recorded is the lab's first process; ok is false if none is written down.
func (d Dir) Recorded() (p Process, ok bool, err error) {
	text, err := os.ReadFile(d.record())
	if errors.Is(err, os.ErrNotExist) {
		return Process{}, false, nil
	}
	if err != nil {
		return Process{}, false, fmt.Errorf("read the lab's record: %w", err)
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return Process{}, false, fmt.Errorf("read the lab's record %s: %w", d.record(), err)
	}
	return p, true, nil
}

// Alive reports whether exactly this process still runs.
func (p Process) Alive() bool {
	fd, err := p.open()
	if err != nil {
		return false
	}
	_ = unix.Close(fd) // a pidfd: closing has no failure that matters
	return true
}

// open gives a descriptor of exactly this process. The start time is compared
// after opening, so the number cannot be taken over in between.
func (p Process) open() (int, error) {
	boot, err := bootID()
	if err != nil || boot != p.Boot {
		return -1, fmt.Errorf("process %d: of another boot", p.PID)
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return -1, fmt.Errorf("process %d: %w", p.PID, err)
	}
	start, err := startTime("/proc", p.PID)
	if err == nil && start == p.Start {
		if over, err := ended(fd, 0); err == nil && !over {
			return fd, nil
		}
	}
	_ = unix.Close(fd) // as above
	return -1, fmt.Errorf("process %d is not the recorded one", p.PID)
}

// ended reports whether the process behind a pidfd is over, whether or not
// somebody has waited for it. Its state in /proc would say so too early: of a
// process with several threads, the first may be over while another one still
// ends the processes of its PID namespace.
func ended(pidfd int, wait time.Duration) (bool, error) {
	polls := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(polls, int(wait.Milliseconds()))
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return n > 0, err
}

// Kill ends exactly this process and waits until it is gone. As it is the first
// of its PID namespace, the kernel ends every other process of the namespace
// before, and with them go the lab's mounts and network namespaces. A process
// that is not there any more is fine.
func (p Process) Kill(timeout time.Duration) error {
	fd, err := p.open()
	if err != nil {
		return nil // not there: nothing to end
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end process %d: %w", p.PID, err)
	}
	deadline := time.Now().Add(timeout)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("end process %d: it is still there after %s", p.PID, timeout)
		}
		over, err := ended(fd, left+time.Millisecond)
		if err != nil {
			return fmt.Errorf("wait for process %d: %w", p.PID, err)
		}
		if over {
			return nil
		}
	}
}
