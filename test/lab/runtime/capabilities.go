package runtime

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilityNames is every capability in the kernel's order: the index is its
// number (linux/capability.h).
func capabilityNames() []string {
	return []string{
		"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
		"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
		"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
		"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
		"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
		"CHECKPOINT_RESTORE",
	}
}

// defaultCapabilities is what a container has that asks for nothing, as
// containerd defines it.
func defaultCapabilities() []string {
	return []string{
		"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
		"NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
	}
}

// capabilities is the set, a bit a capability, that s allows. What is added
// wins over ALL dropped, and what is dropped by name over ALL added.
func capabilities(s Security) (uint64, error) {
	names := capabilityNames()
	all := uint64(1)<<len(names) - 1
	if s.Privileged {
		return all, nil
	}
	set, err := capabilityMask(defaultCapabilities())
	if err != nil {
		return 0, err
	}
	if hasAll(s.AddCapabilities) {
		set = all
	}
	if hasAll(s.DropCapabilities) {
		set = 0
	}
	add, err := capabilityMask(s.AddCapabilities)
	if err != nil {
		return 0, err
	}
	drop, err := capabilityMask(s.DropCapabilities)
	if err != nil {
		return 0, err
	}
	return (set | add) &^ drop, nil
}

func hasAll(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, "ALL") })
}

// capabilityMask is the set of the names, ALL left out.
func capabilityMask(list []string) (uint64, error) {
	names := capabilityNames()
	var mask uint64
	for _, name := range list {
		if strings.EqualFold(name, "ALL") {
			continue
		}
		bit := slices.Index(names, strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
		if bit < 0 {
			return 0, fmt.Errorf("unknown capability %q", name)
		}
		mask |= 1 << bit
	}
	return mask, nil
}

// boundCapabilities takes everything outside mask from the calling thread's
// bounding set, so that no program it starts can have it.
func boundCapabilities(mask uint64) error {
	for bit := uintptr(0); bit < 64; bit++ {
		if mask&(1<<bit) != 0 {
			continue
		}
		held, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, bit, 0, 0, 0)
		if err != nil {
			return nil // past the kernel's last capability
		}
		if held == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, bit, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", bit, err)
		}
	}
	return nil
}

// setCapabilities makes mask the calling thread's permitted and effective
// capabilities. None is inheritable or ambient, so a user other than root has
// none in the programs it executes, as under containerd.
func setCapabilities(mask uint64) error {
	var held [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &held[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	var set [2]unix.CapUserData
	for i := range set {
		// A machine may lack some itself; asking for those would fail.
		set[i].Permitted = uint32(mask>>(32*i)) & held[i].Permitted
		set[i].Effective = set[i].Permitted
	}
	if err := unix.Capset(&header, &set[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}
