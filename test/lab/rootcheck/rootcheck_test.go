package rootcheck

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespaces runs f on a thread with new namespaces of its own; the thread
// ends with f, and the namespaces with it.
func inNamespaces(t *testing.T, flags int, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root: makes namespaces")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not reused
		err := unix.Unshare(flags)
		if err == nil && flags&unix.CLONE_NEWNS != 0 {
			// Else mounts would reach the machine's own mount namespace.
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("make namespaces: %v", err)
	}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v: %s", name, args, err, out)
	}
}

func snapshot(t *testing.T, readers []reader) Snapshot {
	t.Helper()
	s, err := take(context.Background(), readers)
	if err != nil {
		t.Error(err)
	}
	return s
}

func TestUnchangedNamespaceHasNoDiffAndNoNewTables(t *testing.T) {
	inNamespaces(t, unix.CLONE_NEWNET, func() {
		before := snapshot(t, networkReaders())
		if diff := Diff(before, snapshot(t, networkReaders())); diff != "" {
			t.Errorf("nothing was changed, but:\n%s", diff)
		}
		for _, name := range []string{"ip_tables_names", "ip6_tables_names"} {
			tables, err := os.ReadFile("/proc/thread-self/net/" + name)
			if err != nil || len(tables) > 0 {
				t.Errorf("taking a snapshot made tables: %s: %q, %v", name, tables, err)
			}
		}
	})
}

func TestEachChangeOfANetworkIsSeen(t *testing.T) {
	tests := []struct {
		name    string
		command []string
		section string
		want    string
	}{
		{"link", []string{"ip", "link", "add", "left0", "type", "veth", "peer", "left1"}, "links", ": left0@left1:"},
		{"link up", []string{"ip", "link", "set", "lo", "up"}, "links", "+ 1: lo: <LOOPBACK,UP"},
		{"address", []string{"ip", "addr", "add", "10.9.9.9/32", "dev", "lo"}, "addresses", "+ 1: lo inet 10.9.9.9/32"},
		{"IPv6 address", []string{"ip", "addr", "add", "fd09::9/128", "dev", "lo"}, "addresses", "+ 1: lo inet6 fd09::9/128"},
		{"route in a table", []string{"ip", "route", "add", "unreachable", "10.9.0.0/16", "table", "77"}, "IPv4 routes", "10.9.0.0/16"},
		{"IPv6 route", []string{"ip", "-6", "route", "add", "unreachable", "fd09::/64", "metric", "7"}, "IPv6 routes", "fd09::/64"},
		{"rule", []string{"ip", "rule", "add", "fwmark", "7", "table", "77"}, "IPv4 rules", "fwmark 0x7 lookup 77"},
		{"IPv6 rule", []string{"ip", "-6", "rule", "add", "fwmark", "7", "table", "77"}, "IPv6 rules", "fwmark 0x7 lookup 77"},
		{"nexthop", []string{"sh", "-c", "ip link set lo up && ip nexthop add id 9 blackhole"}, "nexthops", "+ id 9 scope global blackhole"},
		{"iptables rule", []string{"iptables-legacy", "-A", "INPUT", "-s", "10.9.9.9", "-j", "DROP"}, "iptables-legacy-save", "+ filter rule 0001: -A INPUT -s 10.9.9.9/32 -j DROP"},
		{"iptables table", []string{"iptables-legacy", "-t", "mangle", "-L"}, "iptables-legacy-save", "+ mangle :INPUT ACCEPT"},
		{"ip6tables chain", []string{"ip6tables-legacy", "-t", "nat", "-N", "LEFT"}, "ip6tables-legacy-save", "+ nat :LEFT -"},
		{"nft table", []string{"nft", "add", "table", "inet", "left"}, "nft ruleset", "table inet left"},
		{"sysctl", []string{"sysctl", "-qw", "net.ipv4.ip_forward=1"}, "sysctls", "+ /proc/sys/net/ipv4/ip_forward = 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespaces(t, unix.CLONE_NEWNET, func() {
				before := snapshot(t, networkReaders())
				command(t, tt.command[0], tt.command[1:]...)
				diff := Diff(before, snapshot(t, networkReaders()))
				if !strings.Contains(diff, tt.section+":\n") || !strings.Contains(diff, tt.want) {
					t.Errorf("want section %q with %q, got:\n%s", tt.section, tt.want, diff)
				}
			})
		})
	}
}

func TestNamesAndMountsLeftBehindAreSeen(t *testing.T) {
	inNamespaces(t, unix.CLONE_NEWNS|unix.CLONE_NEWNET, func() {
		command(t, "mount", "-t", "tmpfs", "tmpfs", "/run")
		before := snapshot(t, machineReaders())
		command(t, "ip", "netns", "add", "rootcheck-left")
		diff := Diff(before, snapshot(t, machineReaders()))
		for _, want := range []string{"named network namespaces:\n  + rootcheck-left\n", "mounts:\n", " /run/netns/rootcheck-left "} {
			if !strings.Contains(diff, want) {
				t.Errorf("want %q, got:\n%s", want, diff)
			}
		}
	})
}

func TestTakeReadsEverySection(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root: reads firewall tables")
	}
	s, err := Take(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"links", "addresses", "sysctls", "conntrack module parameters", "mounts"} {
		if len(s.lines(name)) == 0 {
			t.Errorf("section %q is empty in:\n%s", name, s)
		}
	}
}

func TestDiffCountsLinesAndNamesSections(t *testing.T) {
	a := Snapshot{sections: []section{{"links", []string{"a", "b", "b"}}, {"rules", []string{"x"}}}}
	b := Snapshot{sections: []section{{"links", []string{"b", "c"}}, {"rules", []string{"x"}}, {"mounts", []string{"m"}}}}
	want := "links:\n  - a\n  - b\n  + c\nmounts:\n  + m\n"
	if got := Diff(a, b); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	if got := Diff(a, a); got != "" {
		t.Errorf("a snapshot differs from itself:\n%s", got)
	}
}

func TestWhatRunsDownByItselfIsLeftOut(t *testing.T) {
	tests := []struct {
		name string
		got  []string
		want []string
	}{
		{
			"lifetimes and timers",
			objectLines("2: eth0 inet 10.0.0.4/24\\  valid_lft 86min preferred_lft 55sec\n3: br0: gc_timer  287.11 mtu 1500\n"),
			[]string{"2: eth0 inet 10.0.0.4/24 valid_lft 86min preferred_lft limited", "3: br0: gc_timer - mtu 1500"},
		},
		{
			"counters and dates of iptables",
			firewallLines("# Generated on Monday\n*nat\n:OUTPUT ACCEPT [12:720]\n[3:4] -A OUTPUT -j RETURN\n-A OUTPUT -j X\nCOMMIT\n"),
			[]string{"nat", "nat :OUTPUT ACCEPT", "nat rule 0001: -A OUTPUT -j RETURN", "nat rule 0002: -A OUTPUT -j X"},
		},
		{
			"expiry of elements of nft",
			rulesetLines("table ip a {\n\tset s {\n\t\telements = { 10.0.0.1 timeout 1m expires 12s }\n\t}\n}\n"),
			[]string{
				"table ip a line 0001: table ip a {", "table ip a line 0002: \tset s {",
				"table ip a line 0003: \t\telements = { 10.0.0.1 timeout 1m expires limited }",
				"table ip a line 0004: \t}", "table ip a line 0005: }",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !slices.Equal(tt.got, tt.want) {
				t.Errorf("got  %q\nwant %q", tt.got, tt.want)
			}
		})
	}
}

func TestMountLineKeepsWhatIsMountedWhere(t *testing.T) {
	got, err := mountLine("36 35 98:0 /mnt1 /mnt2 rw,noatime shared:17 master:1 - ext3 /dev/root rw")
	if want := "/mnt1 /mnt2 rw,noatime shared master - ext3 /dev/root rw"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := mountLine("36 35"); err == nil {
		t.Error("a line without a mount point was accepted")
	}
}

func TestProcessesOfFindsARunningProgramAlsoOnceDeleted(t *testing.T) {
	folder := t.TempDir()
	program := filepath.Join(folder, "sleeper")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	command(t, "cp", sleep, program)
	cmd := exec.Command(program, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	check := func(when string) {
		found, err := ProcessesOf(folder)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) != 1 || found[0].PID != cmd.Process.Pid || found[0].Start == 0 || found[0].Executable != program {
			t.Errorf("%s: want process %d of %s, got %v", when, cmd.Process.Pid, program, found)
		}
	}
	check("running")
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	check("deleted")
	if found, err := ProcessesOf(filepath.Join(folder, "absent")); err != nil || len(found) > 0 {
		t.Errorf("an absent folder has processes %v, %v", found, err)
	}
}

func TestStartTimeSkipsAnyCommandName(t *testing.T) {
	stat := "7 (a) b) R 1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0"
	if got, err := startTime(stat); err != nil || got != 4242 {
		t.Errorf("got %d, %v, want 4242", got, err)
	}
	for _, bad := range []string{"", "7 (a", "7 (a) R 1 2"} {
		if _, err := startTime(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
