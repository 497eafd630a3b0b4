package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/attach"
	"github.com/overland-net/overland/pkg/cni/conflist"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/node"
)

// cleanable is a configuration of which node.json is there.
func cleanable(t *testing.T) Config {
	t.Helper()
	dir := t.TempDir()
	boot := filepath.Join(dir, "boot")
	if err := os.WriteFile(boot, []byte("b"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := node.Begin(dir, boot, func() ([]model.Interface, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	// Of that boot, with nothing in it.
	if err := os.WriteFile(filepath.Join(dir, attach.FileName), []byte(`{"version":1,"bootID":"b"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return Config{
		AdminSocket: filepath.Join(dir, "admin.sock"), DataplaneConfig: DataplaneConfig{StateDir: dir},
		CNIConfig: CNIConfig{CNIConfDir: filepath.Join(dir, "net.d"), CNIBinDir: filepath.Join(dir, "bin")},
	}
}

// remembered tells whether anything is remembered of the node; of all files or of
// none, that is.
func remembered(t *testing.T, cfg Config) bool {
	t.Helper()
	there := map[bool]int{}
	for _, name := range []string{"node.json", attach.FileName} {
		_, err := os.Stat(filepath.Join(cfg.StateDir, name))
		there[err == nil]++
	}
	if len(there) != 1 {
		t.Error("a part of what is remembered of the node is gone, and a part is not")
	}
	return there[true] > 0
}

func TestCleanupRemovesAllAndForgetsTheNode(t *testing.T) {
	cfg, k := cleanable(t), &fakeKernel{}
	for range 2 {
		if err := cleanup(t.Context(), cfg, false, opens(k), silent()); err != nil {
			t.Fatal(err)
		}
	}
	if k.removed != 2 || !k.closed || remembered(t, cfg) {
		t.Errorf("removed %d times, closed %v, remembered %v", k.removed, k.closed, remembered(t, cfg))
	}
}

// TestCleanupRemovesTheListFirstAndThePluginLast: while pods may still be started
// with our list, the program in it has to be there.
func TestCleanupRemovesTheListFirstAndThePluginLast(t *testing.T) {
	cfg := cleanable(t)
	list := filepath.Join(cfg.CNIConfDir, conflist.FileName)
	azure, plugin := filepath.Join(cfg.CNIConfDir, "10-azure.conflist"), filepath.Join(cfg.CNIBinDir, "overland-cni")
	for _, path := range []string{list, azure, plugin} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	there := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	var k fakeKernel
	var began time.Time
	open := func(context.Context) (kernel, error) {
		began = time.Now()
		if there(list) || !there(plugin) {
			t.Errorf("when the kernel is cleaned: list there %v, plugin there %v", there(list), there(plugin))
		}
		return &k, nil
	}
	if err := cleanup(t.Context(), cfg, false, open, silent()); err != nil {
		t.Fatal(err)
	}
	if there(plugin) || !there(azure) || remembered(t, cfg) {
		t.Error("the folders are not as they should be")
	}
	if passed := time.Since(began); passed < conflist.Drain-time.Second {
		t.Errorf("the plugin is removed after %v", passed)
	}
}

func TestCleanupThatFailsForgetsNothing(t *testing.T) {
	cfg, k := cleanable(t), &fakeKernel{broken: errors.New("locked")}
	if err := cleanup(t.Context(), cfg, false, opens(k), silent()); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("got %v", err)
	}
	if !remembered(t, cfg) {
		t.Error("the node is forgotten though its kernel is not clean")
	}
}

func TestCleanupLeavesARunningAgentAlone(t *testing.T) {
	cfg, k := cleanable(t), &fakeKernel{}
	listener, err := net.Listen("unix", cfg.AdminSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	if err := cleanup(t.Context(), cfg, false, opens(k), silent()); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("got %v", err)
	}
	if k.removed != 0 || !remembered(t, cfg) {
		t.Error("it was cleaned up all the same")
	}
	if err := cleanup(t.Context(), cfg, true, opens(k), silent()); err != nil || k.removed != 1 {
		t.Errorf("with --force: %v, removed %d times", err, k.removed)
	}
}

func TestCleanupNeedsNoNames(t *testing.T) {
	none := environment(nil)
	cfg, force, err := loadCleanup([]string{"--iptables-backend=nft", "--force"}, none)
	if err != nil || !force || cfg.IptablesBackend != "nft" || cfg.StateDir != "/var/lib/overland" {
		t.Errorf("got %+v, %v, %v", cfg, force, err)
	}
	for args, want := range map[string]string{
		"--connmark-mask=0xf": "connmarkMask", "now": `unexpected argument "now"`, "--frce": "unknown flag", "--config=/does/not/exist": "/does/not/exist",
	} {
		if _, _, err := loadCleanup([]string{args}, none); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", args, err)
		}
	}
}
