package rootcheck

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// volatileSysctl tells the sysctls that are left out: one that differs between
// two looks at a busy machine where nothing was changed (all were compared), and
// secrets, which do not belong into a test's output.
func volatileSysctl(path string) bool {
	switch strings.TrimPrefix(path, "/proc/sys/net/") {
	case
		"netfilter/nf_conntrack_count", // the connections of this moment
		"ipv4/tcp_fastopen_key",        // a secret
		"core/netdev_rss_key":          // a secret, made when first needed
		return true
	}
	// A secret too, and an error to read while it is not set.
	return strings.HasSuffix(path, "/stable_secret")
}

func never(string) bool { return false }

// fileLines is every readable file below a folder as "path = content", except
// those for which skip says so. A folder that is not there has no lines: the
// kernel part it belongs to is absent.
func fileLines(root string, skip func(path string) bool) ([]string, error) {
	var lines []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an interface went while its files were read
		}
		if err != nil || entry.IsDir() || skip(path) {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o444 == 0 {
			return nil // an action, such as flushing routes: there is no value
		}
		content, err := os.ReadFile(path)
		if err != nil {
			// The kernel refuses to show some values; that it does is a fact too.
			content = []byte(rootCause(err).Error())
		}
		lines = append(lines, fmt.Sprintf("%s = %s", path, strings.Join(strings.Fields(string(content)), " ")))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read files below %s: %w", root, err)
	}
	return lines, nil
}

func rootCause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// machineReaders are the sections about what a lab could leave on the machine.
func machineReaders() []reader {
	return []reader{
		{"named network namespaces", readNamespaceNames},
		{"mounts", readMounts},
	}
}

// mountLine drops from a line of mountinfo (proc_pid_mountinfo(5)) its first
// three fields, two ids and a device number, which a file system gets anew when
// it is mounted again, and the numbers of its peer groups.
func mountLine(line string) (string, error) {
	fields := strings.Fields(line)
	const ids = 3
	if len(fields) <= ids {
		return "", fmt.Errorf("mountinfo line %q has %d fields", line, len(fields))
	}
	kept := fields[ids:]
	for i, field := range kept {
		if name, number, found := strings.Cut(field, ":"); found {
			if _, err := strconv.Atoi(number); err == nil && (name == "shared" || name == "master") {
				kept[i] = name
			}
		}
	}
	return strings.Join(kept, " "), nil
}
