package azurecni

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestConflistIsAzuresWithTheRanges(t *testing.T) {
	got := Conflist(Config{Ranges: []Range{range4(), range6()}})
	golden := filepath.Join("testdata", ConflistName)
	if *update {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("conflist (-want +got), -update rewrites it:\n%s", diff)
	}
}

func TestHostVethNameIsTheSHA1Rule(t *testing.T) {
	// printf default.web-0 | sha1sum
	for _, c := range []struct{ namespace, pod, want string }{
		{"default", "web-0", "azv0d7763386da"},
		{"kube-system", "coredns-7d8f9", "azv9626b185e72"},
	} {
		if got := HostVethName(c.namespace, c.pod); got != c.want || len(got) != 14 {
			t.Errorf("HostVethName(%s, %s) = %s, want %s", c.namespace, c.pod, got, c.want)
		}
	}
}

func TestRangesAreChecked(t *testing.T) {
	addr := netip.MustParseAddr
	v4 := Range{First: addr("10.0.0.1"), Last: addr("10.0.0.2")}
	v6 := Range{First: addr("fd00::1"), Last: addr("fd00::2")}
	for name, c := range map[string]struct {
		ranges []Range
		want   string // part of the error; empty for none
	}{
		"one IPv4":       {[]Range{v4}, ""},
		"dual stack":     {[]Range{v6, v4}, ""},
		"none":           {nil, "want one IPv4"},
		"only IPv6":      {[]Range{v6}, "want one IPv4"},
		"two IPv4":       {[]Range{v4, v4}, "want one IPv4"},
		"backwards":      {[]Range{{First: addr("10.0.0.2"), Last: addr("10.0.0.1")}}, "before first"},
		"mixed":          {[]Range{{First: addr("10.0.0.2"), Last: addr("fd00::1")}}, "one family"},
		"no last":        {[]Range{{First: addr("10.0.0.2")}}, "first and last"},
		"outside subnet": {[]Range{{Subnet: netip.MustParsePrefix("10.1.0.0/16"), First: addr("10.0.0.1"), Last: addr("10.1.0.1")}}, "not within subnet"},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkRanges(c.ranges)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}
