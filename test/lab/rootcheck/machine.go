package rootcheck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// namespaceFolder is where ip-netns(8) keeps the names of network namespaces.
const namespaceFolder = "/run/netns"

func readNamespaceNames(context.Context) ([]string, error) {
	entries, err := os.ReadDir(namespaceFolder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}

func readMounts(context.Context) ([]string, error) {
	// The thread's, since a thread may be in a mount namespace of its own.
	content, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(string(content)) {
		mount, err := mountLine(line)
		if err != nil {
			return nil, err
		}
		lines = append(lines, mount)
	}
	return lines, nil
}

// Process is a process as it can be told from a later one of the same id.
type Process struct {
	PID int
	// Start is when it started, in clock ticks since the machine's boot.
	Start uint64
	// Executable is the program's path as the process's own root shows it.
	Executable string
}

func (p Process) String() string {
	return fmt.Sprintf("pid %d started at tick %d: %s", p.PID, p.Start, p.Executable)
}

// fileID tells one file on the machine, whatever path a namespace shows it at.
type fileID struct{ device, inode uint64 }

// ProcessesOf lists the processes that run a program in folder or below it, by
// pid: also one whose file was deleted since, and one in another mount
// namespace that shows the file elsewhere. An absent folder has none.
func ProcessesOf(folder string) ([]Process, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, fmt.Errorf("list processes of %s: %w", folder, err)
	}
	files, err := fileIDs(folder)
	if err != nil {
		return nil, fmt.Errorf("list processes of %s: %w", folder, err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes of %s: %w", folder, err)
	}
	var found []Process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		process, id, err := readProcess(pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it ended meanwhile, or is a thread of the kernel
		}
		if errors.Is(err, fs.ErrPermission) {
			continue // root may not look into it, so root did not start it
		}
		if err != nil {
			return nil, fmt.Errorf("read process %d: %w", pid, err)
		}
		if files[id] || strings.HasPrefix(process.Executable, folder+"/") {
			found = append(found, process)
		}
	}
	return found, nil
}

func fileIDs(folder string) (map[fileID]bool, error) {
	ids := map[fileID]bool{}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		id, err := identify(path)
		if err == nil {
			ids[id] = true
		} else if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return ids, err
}

func identify(path string) (fileID, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return fileID{}, fmt.Errorf("stat %s: %w", path, err)
	}
	return fileID{device: stat.Dev, inode: stat.Ino}, nil
}

func readProcess(pid int) (Process, fileID, error) {
	folder := filepath.Join("/proc", strconv.Itoa(pid))
	executable, err := os.Readlink(filepath.Join(folder, "exe"))
	if err != nil {
		return Process{}, fileID{}, err
	}
	// Following the link reaches the file itself, not what is now at its path.
	id, err := identify(filepath.Join(folder, "exe"))
	if err != nil {
		return Process{}, fileID{}, err
	}
	stat, err := os.ReadFile(filepath.Join(folder, "stat"))
	if err != nil {
		return Process{}, fileID{}, err
	}
	start, err := startTime(string(stat))
	return Process{PID: pid, Start: start, Executable: strings.TrimSuffix(executable, " (deleted)")}, id, err
}

// startTime reads field 22 of proc_pid_stat(5). Field 2 is the command in
// parentheses and may hold anything, so fields are counted from its end.
func startTime(stat string) (uint64, error) {
	end := strings.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, fmt.Errorf("stat line %q has no command", stat)
	}
	fields := strings.Fields(stat[end+1:])
	const index = 22 - 3
	if len(fields) <= index {
		return 0, fmt.Errorf("stat line %q has no start time", stat)
	}
	return strconv.ParseUint(fields[index], 10, 64)
}
