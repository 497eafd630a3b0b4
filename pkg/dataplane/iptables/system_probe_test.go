package iptables

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/dataplane/nfnl/nfnltest"
	"github.com/overland-net/overland/pkg/desired"
)

// refusing is a System whose restore program refuses a script with a word in it,
// with a message, and else runs the real one.
func refusing(t *testing.T, word, message string) *System {
	t.Helper()
	nfnltest.Isolate(t)
	s := open(t, SystemConfig{Backend: BackendLegacy, IPv6: true})
	s.info.Missing, s.info.Warnings = nil, nil
	p := s.programs[BackendLegacy]
	for _, program := range []*string{&p.restore4, &p.restore6} {
		path := filepath.Join(t.TempDir(), filepath.Base(*program))
		script := "#!/bin/sh\nin=$(cat)\ncase \"$in\" in *'" + word + "'*) echo '" + message + "' >&2; exit 4;; esac\n" +
			"echo \"$in\" | " + *program + " \"$@\"\n"
		if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		*program = path
	}
	s.programs = map[string]programs{BackendLegacy: p}
	return s
}

func TestAMissingFeatureIsRefusedByName(t *testing.T) {
	for word, want := range map[string][]string{
		"rpfilter":          {`"match rpfilter"`, "IPv4", "module xt_rpfilter", "node image"},
		"match-set ovl4":    {`"match set of addresses"`, "xt_set"},
		"-j CONNMARK":       {`"target CONNMARK"`, "xt_connmark"},
		"*raw":              {"table raw of IPv4 cannot be written"},
		"-m connmark --mar": {`"match connmark"`},
	} {
		t.Run(word, func(t *testing.T) {
			s := refusing(t, word, "iptables-restore: line 3 failed: No chain/target/match by that name.")
			before := ruleset(t)
			err := s.probe(context.Background(), desired.IPv4)
			for _, w := range want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("%v, want %q", err, w)
				}
			}
			if after := ruleset(t); after != before && word != "*raw" { // there even the cleaning is refused
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

func TestAMissingOptionalFeatureIsAWarning(t *testing.T) {
	s := refusing(t, "-m sctp", "Warning: Extension sctp revision 0 not supported, missing kernel module?")
	if err := s.probe(context.Background(), desired.IPv6); err != nil {
		t.Fatal(err)
	}
	if info := s.Info(); !slices.Equal(info.Missing, []Feature{FeatureSCTP}) || len(info.Warnings) != 1 || !strings.Contains(info.Warnings[0], "xt_sctp") {
		t.Errorf("%+v", info)
	}
}

func TestANodeThatBlocksIptablesIsRefusedByName(t *testing.T) {
	s := refusing(t, "*mangle", "iptables-restore: line 3 failed: Operation not permitted.")
	err := s.Restore(context.Background(), desired.IPv4, []byte("*mangle\nCOMMIT\n"))
	if !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "eBPF host routing") {
		t.Errorf("%v", err)
	}
}

func TestAProgramThatHangsEndsWithItsCaller(t *testing.T) {
	nfnltest.Isolate(t)
	s := open(t, SystemConfig{Backend: BackendLegacy})
	path := filepath.Join(t.TempDir(), "hang")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.programs = map[string]programs{BackendLegacy: {restore4: path, save4: path}}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := s.Restore(ctx, desired.IPv4, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := s.Tables(ctx, desired.IPv4); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestWithoutProgramsNothingIsOpened(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Open(context.Background(), SystemConfig{}, quiet())
	if err == nil || !strings.Contains(err.Error(), "iptables-nft-restore and -save") {
		t.Errorf("%v", err)
	}
}

func TestTheRightLineIsQuoted(t *testing.T) {
	script := []byte("*mangle\n:OVL-A - [0:0]\n-A OVL-A -j X\nCOMMIT\n")
	for message, want := range map[string]string{
		"iptables-restore: line 4 failed":             `line 4 is "COMMIT"`,
		"Error occurred at line: 3":                   `line 3 is "-A OVL-A -j X"`,
		"line 99 failed":                              "",
		"line 99999999999999999999999 failed":         "",
		"nothing of the kind":                         "",
		"line 2: CHAIN_ADD failed (File exists): ...": `line 2 is ":OVL-A - [0:0]"`,
	} {
		if got := quoted(message, script); got != want {
			t.Errorf("%q: %q", message, got)
		}
	}
}

func FuzzQuoted(f *testing.F) {
	f.Add("line 3 failed", []byte("a\nb\nc\n"))
	f.Fuzz(func(t *testing.T, message string, script []byte) {
		if got := quoted(message, script); len(got) > 10*maxMessage {
			t.Errorf("%d bytes", len(got))
		}
		if got := bounded(message); len(got) > maxMessage+3 || strings.Contains(got, "\n") {
			t.Errorf("%q", got)
		}
	})
}
