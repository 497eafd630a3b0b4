package preflight

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestThisMachineCanHoldALab(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root: tries the kernel's features")
	}
	for _, backend := range []string{"nft", "legacy"} {
		if err := Check(backend); err != nil {
			t.Errorf("%s: %v", backend, err)
		}
	}
}

func TestTryingLeavesTheOwnNamespaceAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root: makes a network namespace")
	}
	links := func() []string {
		entries, err := os.ReadDir("/proc/sys/net/ipv4/conf")
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	before := links()
	err := throwaway(func() error { return run("ip", "link", "add", "ovl-a", "type", "veth", "peer", "name", "ovl-b") })
	if err != nil {
		t.Fatal(err)
	}
	if after := links(); !slices.Equal(before, after) {
		t.Errorf("links before %v and after %v", before, after)
	}
}

func TestAMissingProgramIsNamedWithItsPackage(t *testing.T) {
	path := t.TempDir()
	t.Setenv("PATH", path)
	// In the order of the checks, each after the ones before were installed.
	for _, tt := range []struct{ program, debian string }{
		{"ip", "iproute2"},
		{"iptables-legacy", "iptables"},
		{"iptables-legacy-restore", "iptables"},
		{"ip6tables-legacy", "iptables"},
		{"ipset", "ipset"},
		{"conntrack", "conntrack"},
	} {
		want := "needs the program " + tt.program + ": install Debian's package " + tt.debian
		if err := tools("legacy"); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		if err := os.WriteFile(filepath.Join(path, tt.program), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := tools("legacy"); err != nil {
		t.Errorf("with all of them: %v", err)
	}
}

func TestAnUnknownFileSystemIsMissing(t *testing.T) {
	if err := filesystem("tmpfs"); err != nil {
		t.Errorf("tmpfs: %v", err)
	}
	for _, name := range []string{"nosuchfs", "nodev", ""} {
		if err := filesystem(name); err == nil || err.Error() != "/proc/filesystems does not list it" {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestAFailureIsOneLine(t *testing.T) {
	err := run("sh", "-c", "echo first >&2; echo second; exit 3")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || err.Error() != "exit status 3: first" {
		t.Errorf("got %v", err)
	}
}
