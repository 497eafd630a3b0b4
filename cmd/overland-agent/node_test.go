package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/node"
)

// snapshots gives one snapshot after the other.
type snapshots struct {
	mu    sync.Mutex
	now   *agent.Snapshot
	newer chan struct{}
}

func (s *snapshots) get() (*agent.Snapshot, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.newer
}

func (s *snapshots) set(now *agent.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = now
	close(s.newer)
	s.newer = make(chan struct{})
}

func TestGrandfatheredThatEndAreForgottenOnTheDisk(t *testing.T) {
	dir := t.TempDir()
	boot := filepath.Join(dir, "boot")
	if err := os.WriteFile(boot, []byte("b"), 0o600); err != nil {
		t.Fatal(err)
	}
	both := []model.Interface{{Name: "azva", Index: 1}, {Name: "azvb", Index: 2}}
	state, start, err := node.Begin(dir, boot, func() ([]model.Interface, error) { return both, nil })
	if err != nil {
		t.Fatal(err)
	}
	src := &snapshots{now: &agent.Snapshot{Grandfathered: both}, newer: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	own := &ownNode{state: state, start: start, log: silent()}
	go func() { ended <- own.remember(ctx, src.get) }()
	src.set(&agent.Snapshot{Grandfathered: both[1:]})
	until(t, "written", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "node.json"))
		return err == nil && !strings.Contains(string(text), "azva") && strings.Contains(string(text), "azvb")
	})
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
