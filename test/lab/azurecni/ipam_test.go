package azurecni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

func testIPAM(t *testing.T, first, last string) *ipam {
	t.Helper()
	dir := t.TempDir()
	boot := filepath.Join(dir, "boot_id")
	if err := os.WriteFile(boot, []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return newIPAM(ipamConf{
		StateFile: filepath.Join(dir, "ipam.json"), BootIDFile: boot,
		Ranges: []Range{{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)}},
	})
}

func mustAllocate(t *testing.T, m *ipam, key string) string {
	t.Helper()
	got, err := m.allocate(context.Background(), key, "azv0")
	if err != nil {
		t.Fatal(err)
	}
	return got.Addresses[0].String()
}

func mustRelease(t *testing.T, m *ipam, key string) {
	t.Helper()
	if err := m.release(context.Background(), key); err != nil {
		t.Fatal(err)
	}
}

func TestAddressesAreGivenInTurnAndWrap(t *testing.T) {
	m := testIPAM(t, "10.0.0.1", "10.0.0.3")
	for i, want := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1"} {
		key := fmt.Sprintf("c%d/eth0", i)
		if got := mustAllocate(t, m, key); got != want {
			t.Errorf("address %d is %s, want %s", i, got, want)
		}
		mustRelease(t, m, key)
	}
}

func TestSameContainerKeepsItsAddress(t *testing.T) {
	m := testIPAM(t, "10.0.0.1", "10.0.0.3")
	if a, b := mustAllocate(t, m, "c/eth0"), mustAllocate(t, m, "c/eth0"); a != b {
		t.Errorf("first %s, then %s", a, b)
	}
}

func TestExhaustedRangeIsATryAgainError(t *testing.T) {
	m := testIPAM(t, "fd00::1", "fd00::2")
	mustAllocate(t, m, "a/eth0")
	mustAllocate(t, m, "b/eth0")
	_, err := m.allocate(context.Background(), "c/eth0", "azv0")
	var cniErr *types.Error
	if !errors.As(err, &cniErr) || cniErr.Code != types.ErrTryAgainLater || !strings.Contains(cniErr.Msg, "no free pod address in fd00::1-fd00::2") {
		t.Fatalf("error %v", err)
	}
	mustRelease(t, m, "a/eth0")
	if got := mustAllocate(t, m, "c/eth0"); got != "fd00::1" {
		t.Errorf("got %s, want the freed fd00::1", got)
	}
}

func TestNewBootDropsAllocationsAndKeepsTheCursor(t *testing.T) {
	m := testIPAM(t, "10.0.0.1", "10.0.0.2")
	mustAllocate(t, m, "a/eth0")
	if err := os.WriteFile(m.bootIDFile, []byte("two\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := m.find(context.Background(), "a/eth0"); ok || err != nil {
		t.Errorf("allocation of the earlier boot: found %v, error %v", ok, err)
	}
	if got := mustAllocate(t, m, "b/eth0"); got != "10.0.0.2" {
		t.Errorf("got %s, want the one after the last given, 10.0.0.2", got)
	}
	if got := mustAllocate(t, m, "c/eth0"); got != "10.0.0.1" {
		t.Errorf("got %s, want the one that the earlier boot held, 10.0.0.1", got)
	}
}

func TestCorruptStateIsRefusedByName(t *testing.T) {
	for name, content := range map[string]string{
		"empty":            "",
		"cut":              `{"bootID":"one","alloc`,
		"shared address":   `{"bootID":"one","allocations":{"a/eth0":{"addresses":["10.0.0.1"]},"b/eth0":{"addresses":["10.0.0.1"]}}}`,
		"address is empty": `{"bootID":"one","allocations":{"a/eth0":{"addresses":[""]}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			m := testIPAM(t, "10.0.0.1", "10.0.0.9")
			if err := os.WriteFile(m.file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := m.allocate(context.Background(), "c/eth0", "azv0"); err == nil || !strings.Contains(err.Error(), m.file) {
				t.Errorf("error %v, want one that names %s", err, m.file)
			}
			if got, err := os.ReadFile(m.file); err != nil || string(got) != content {
				t.Errorf("the file was touched: %q, %v", got, err)
			}
		})
	}
}

func FuzzDecodeState(f *testing.F) {
	f.Add([]byte(`{"bootID":"one","last4":"10.0.0.1","allocations":{"a/eth0":{"hostVeth":"azv0","addresses":["10.0.0.1"]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s ipamState
		if decodeState(data, &s) != nil {
			return
		}
		// Whatever is accepted, the search ends and gives a free address.
		r := Range{First: netip.MustParseAddr("10.0.0.1"), Last: netip.MustParseAddr("10.0.0.9")}
		used := s.used()
		if addr, ok := r.next(s.Last4, used); ok && (used[addr] || !r.contains(addr)) {
			t.Fatalf("gave %s", addr)
		}
	})
}
