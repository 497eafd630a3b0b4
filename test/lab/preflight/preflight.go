// Package preflight tells, before anything is made, whether this machine can
// hold a lab. Kernel features are tried, in a network namespace that is gone
// when the check is over, not guessed from versions. It may import
// test/lab/ns.
package preflight

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/test/lab/ns"
)

// need is one thing the lab cannot do without.
type need struct {
	name string
	try  func() error
}

// Check says the first thing that is missing, in one line: the lab is started
// as root, on Linux, with the Debian packages of .ci/install-packages.
func Check(backend string) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root: the lab is made of namespaces, mounts and packet filters")
	}
	if err := tools(backend); err != nil {
		return err
	}
	for _, n := range append(kernel(), netfilter(backend)...) {
		if err := n.try(); err != nil {
			return fmt.Errorf("needs a kernel with %s: %w", n.name, err)
		}
	}
	return nil
}

// tools are the programs that the lab's own programs call, with their packages.
func tools(backend string) error {
	for _, t := range []struct{ program, debian string }{
		{"ip", "iproute2"},
		{"iptables-" + backend, "iptables"},
		{"iptables-" + backend + "-restore", "iptables"},
		{"ip6tables-" + backend, "iptables"},
		{"ipset", "ipset"},
		{"conntrack", "conntrack"},
	} {
		if _, err := exec.LookPath(t.program); err != nil {
			return fmt.Errorf("needs the program %s: install Debian's package %s (.ci/install-packages does)", t.program, t.debian)
		}
	}
	return nil
}

func kernel() []need {
	var all []need
	for _, kind := range []string{"pid", "mnt", "net", "uts", "ipc"} {
		all = append(all, need{kind + " namespaces", func() error {
			_, err := os.Stat("/proc/self/ns/" + kind)
			return err
		}})
	}
	for _, fs := range []string{"tmpfs", "proc", "sysfs", "devpts", "bpf"} {
		all = append(all, need{"the file system " + fs, func() error { return filesystem(fs) }})
	}
	return append(all,
		need{"TUN devices", func() error { _, err := os.Stat("/dev/net/tun"); return err }},
		need{"mount_setattr (5.12 or later)", func() error {
			// Nothing is asked for, so nothing changes.
			return unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{})
		}},
		need{"process descriptors (5.3 or later)", func() error {
			fd, err := unix.PidfdOpen(os.Getpid(), 0)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		}},
	)
}

func filesystem(name string) error {
	text, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[len(fields)-1] == name {
			return nil
		}
	}
	return errors.New("/proc/filesystems does not list it")
}

// netfilter tries what kube-proxy and the agent need, each in a namespace of
// its own.
func netfilter(backend string) []need {
	inside := func(command ...string) func() error {
		return func() error {
			return throwaway(func() error { return run(command...) })
		}
	}
	all := []need{{"veth devices", inside("ip", "link", "add", "ovl-a", "type", "veth", "peer", "name", "ovl-b")}}
	for _, tool := range []string{"iptables-" + backend, "ip6tables-" + backend} {
		for _, rule := range []string{
			"-t nat -A POSTROUTING -m comment --comment x -j MASQUERADE",
			"-t nat -A PREROUTING -m addrtype --dst-type LOCAL -m statistic --mode random --probability 0.5 -j RETURN",
			"-t mangle -A FORWARD -m conntrack --ctstate ESTABLISHED --ctdir REPLY -j RETURN",
			"-t mangle -A FORWARD -m connmark --mark 0x1000000/0xff000000 -j RETURN",
			"-t raw -A PREROUTING -m rpfilter --invert -j DROP",
		} {
			command := append([]string{tool, "-w"}, strings.Fields(rule)...)
			all = append(all, need{tool + " " + rule, inside(command...)})
		}
	}
	return append(all, need{"ipset hash:ip", inside("ipset", "create", "ovl-try", "hash:ip")})
}

// throwaway runs f in a network namespace that ends with it.
func throwaway(f func() error) error {
	return ns.Set{}.Do(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		return f()
	})
}

func run(command ...string) error {
	cmd := exec.Command(command[0], command[1:]...)
	// Its own lock file would be made on the machine otherwise.
	cmd.Env = append(os.Environ(), "XTABLES_LOCKFILE=/dev/null")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(string(out))
	if first, _, ok := strings.Cut(text, "\n"); ok {
		text = first
	}
	return fmt.Errorf("%w: %s", err, text)
}
