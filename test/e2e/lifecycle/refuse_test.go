package lifecycle

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// commands are all that need a running lab.
func commands() [][]string {
	return [][]string{
		{"status"},
		{"exec", "west/node-1", "--", "true"},
		{"netns", "west-vnet", "--", "true"},
		{"kubeconfig", "west"},
		{"env", "west"},
		{"cut", "west", "canada"},
		{"heal"},
		{"delay", "west", "canada", "5ms"},
		{"stop", "west", "etcd"},
		{"start", "west", "etcd"},
		{"reboot", "west/node-1"},
	}
}

func TestWithoutALabEachCommandSaysSoInOneLine(t *testing.T) {
	l := newLab(t, "absent")
	for _, args := range commands() {
		l.refused(l.command(args...), 1, "no lab is up in "+string(l.dir))
	}
	for range 2 {
		if out := l.must("down"); out != "no lab in "+string(l.dir)+": nothing to do\n" {
			t.Errorf("down without a lab says %q", out)
		}
	}
}

func TestNotRootIsRefusedBeforeAnythingIsMade(t *testing.T) {
	l := newLab(t, "state")
	// It is the program that has to refuse, not the folder's mode.
	if err := os.Chmod(filepath.Dir(string(l.dir)), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"up", "down"} {
		l.refused(l.command(command).asNobody(), 1, "needs root")
		l.nothingLeft(nil)
	}
}

func TestAMissingProgramIsNamedWithItsPackageBeforeAnythingIsMade(t *testing.T) {
	tests := []struct {
		name  string
		there []string
		want  string
	}{
		{"none", nil, "needs the program ip: install Debian's package iproute2"},
		{"no iptables", []string{"ip"}, "needs the program iptables-nft: install Debian's package iptables"},
		{
			"no ipset",
			[]string{"ip", "iptables-nft", "iptables-nft-restore", "ip6tables-nft"},
			"needs the program ipset: install Debian's package ipset",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, "state")
			path := t.TempDir()
			for _, name := range tt.there {
				target, err := exec.LookPath(name)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(target, filepath.Join(path, name)); err != nil {
					t.Fatal(err)
				}
			}
			up := l.command("up")
			up.Env = []string{"PATH=" + path, "OVERLAND_LAB=" + string(l.dir), "HOME=" + path}
			l.refused(up, 1, tt.want)
			l.nothingLeft(nil)
		})
	}
}

func TestAFolderThatIsNotALabsIsNeverTaken(t *testing.T) {
	l := newLab(t, "precious")
	file := filepath.Join(string(l.dir), "file")
	if err := os.Mkdir(string(l.dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	l.refused(l.command("up"), 1, "it has files that are not a lab's")
	l.refused(l.command("down"), 1, "it has files that are not a lab's")
	if text, err := os.ReadFile(file); err != nil || string(text) != "kept" {
		t.Errorf("the file is now %q, %v", text, err)
	}
	if err := os.RemoveAll(string(l.dir)); err != nil {
		t.Fatal(err)
	}
}

func TestAWrongCallIsOneLineAndStatus2(t *testing.T) {
	l := newLab(t, "state")
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"fly"}, `no command "fly"`},
		{[]string{"up", "now"}, "accepts 0 arg(s)"},
		{[]string{"up", "--nodes", "0"}, "nodes: 1 to 100 expected, got 0"},
		{[]string{"up", "--nodes", "x"}, "invalid argument"},
		{[]string{"up", "--clusters", "west,west"}, `clusters: "west" is named twice`},
		{[]string{"up", "--clusters", "a_b"}, `"a_b" is not a DNS label`},
		{[]string{"up", "--iptables", "ebtables"}, "iptables: nft or legacy expected"},
		{[]string{"up", "--no-such"}, "unknown flag"},
		{[]string{"cut", "west"}, "accepts 2 arg(s)"},
		{[]string{"delay", "west", "canada", "soon"}, "a time such as 40ms expected"},
		{[]string{"exec", "west/node-1"}, "requires at least 2 arg(s)"},
	}
	for _, tt := range tests {
		l.refused(l.command(tt.args...), 2, tt.want)
	}
}
