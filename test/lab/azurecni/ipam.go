package azurecni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
)

const (
	// lockWait is how long a call waits for another one; the real plugin's figure.
	lockWait = 30 * time.Second
	lockPoll = 5 * time.Millisecond
)

// allocation is what one container's interface holds.
type allocation struct {
	HostVeth  string       `json:"hostVeth"`
	Addresses []netip.Addr `json:"addresses"` // IPv4 first
}

// ipamState is the state file's content.
type ipamState struct {
	// BootID is the boot in which the allocations were made.
	BootID string `json:"bootID"`
	// Last4 and Last6 are the addresses given last: the next one is searched
	// after them, so that a pod made again gets a new address.
	Last4 netip.Addr `json:"last4,omitzero"`
	Last6 netip.Addr `json:"last6,omitzero"`
	// Allocations by CONTAINERID/IFNAME.
	Allocations map[string]allocation `json:"allocations"`
}

// ipam hands out a node's pod addresses. Its state is a file, its lock another
// one, so it is safe for concurrent use by any number of processes.
type ipam struct {
	file       string
	bootIDFile string
	ranges     []Range
}

func newIPAM(conf ipamConf) *ipam {
	ranges := slices.Clone(conf.Ranges)
	slices.SortFunc(ranges, func(a, b Range) int { return a.First.BitLen() - b.First.BitLen() })
	return &ipam{file: conf.StateFile, bootIDFile: conf.BootIDFile, ranges: ranges}
}

func allocationKey(containerID, ifName string) string { return containerID + "/" + ifName }

// allocate gives the container's interface an address of every range. Called
// again for the same key it returns what the key already has.
func (m *ipam) allocate(ctx context.Context, key, hostVeth string) (allocation, error) {
	var got allocation
	err := m.update(ctx, func(s *ipamState) (bool, error) {
		if have, ok := s.Allocations[key]; ok {
			got = have
			return false, nil
		}
		used := s.used()
		got = allocation{HostVeth: hostVeth}
		for _, r := range m.ranges {
			last := &s.Last4
			if r.First.Is6() {
				last = &s.Last6
			}
			addr, ok := r.next(*last, used)
			if !ok {
				return false, types.NewError(types.ErrTryAgainLater,
					fmt.Sprintf("no free pod address in %s-%s: every one is in use", r.First, r.Last), m.file)
			}
			*last = addr
			got.Addresses = append(got.Addresses, addr)
		}
		s.Allocations[key] = got
		return true, nil
	})
	return got, err
}

// find returns the key's allocation, if it has one.
func (m *ipam) find(ctx context.Context, key string) (got allocation, ok bool, err error) {
	err = m.update(ctx, func(s *ipamState) (bool, error) {
		got, ok = s.Allocations[key]
		return false, nil
	})
	return got, ok, err
}

// release frees the key's addresses; a key without any is fine.
func (m *ipam) release(ctx context.Context, key string) error {
	return m.update(ctx, func(s *ipamState) (bool, error) {
		_, had := s.Allocations[key]
		delete(s.Allocations, key)
		return had, nil
	})
}

// update calls fn with the state under the lock and stores the state if fn
// says that it changed it.
func (m *ipam) update(ctx context.Context, fn func(*ipamState) (changed bool, err error)) error {
	if err := os.MkdirAll(filepath.Dir(m.file), 0o755); err != nil {
		return fmt.Errorf("create folder of the address state %s: %w", m.file, err)
	}
	unlock, err := lockFile(ctx, m.file+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	state, err := m.load()
	if err != nil {
		return err
	}
	changed, err := fn(state)
	if err != nil || !changed {
		return err
	}
	return m.store(state)
}

// load reads the state. Allocations of an earlier boot are dropped: their
// containers died with it, and nobody may call DEL for them.
func (m *ipam) load() (*ipamState, error) {
	bootID, err := os.ReadFile(m.bootIDFile)
	if err != nil {
		return nil, fmt.Errorf("read boot id: %w", err)
	}
	boot := strings.TrimSpace(string(bootID))
	state := &ipamState{BootID: boot, Allocations: map[string]allocation{}}
	data, err := os.ReadFile(m.file)
	if errors.Is(err, fs.ErrNotExist) {
		return state, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read address state: %w", err)
	}
	if err := decodeState(data, state); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure,
			fmt.Sprintf("address state %s is corrupt; addresses in use are unknown, so none is given", m.file), err.Error())
	}
	if state.BootID != boot || state.Allocations == nil {
		state.BootID, state.Allocations = boot, map[string]allocation{}
	}
	return state, nil
}

// decodeState decodes data into state and checks what allocate relies on.
func decodeState(data []byte, state *ipamState) error {
	if err := json.Unmarshal(data, state); err != nil {
		return err
	}
	owner := map[netip.Addr]string{}
	for key, a := range state.Allocations {
		for _, addr := range a.Addresses {
			if other, dup := owner[addr]; dup || !addr.IsValid() {
				return fmt.Errorf("address %s of %s is invalid or also of %q", addr, key, other)
			}
			owner[addr] = key
		}
	}
	return nil
}

// store replaces the state file. The rename keeps readers from seeing half a
// file; there is no fsync, since a node of the lab never loses power.
func (m *ipam) store(state *ipamState) error {
	data, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return fmt.Errorf("encode address state: %w", err)
	}
	temp := m.file + ".tmp" // one writer at a time: the lock is held
	if err := os.WriteFile(temp, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write address state: %w", err)
	}
	if err := os.Rename(temp, m.file); err != nil {
		return fmt.Errorf("replace address state: %w", err)
	}
	return nil
}

// used lists every address that some container holds.
func (s *ipamState) used() map[netip.Addr]bool {
	used := map[netip.Addr]bool{}
	for _, a := range s.Allocations {
		for _, addr := range a.Addresses {
			used[addr] = true
		}
	}
	return used
}

// next finds the first free address after last, wrapping at the range's end.
// The search looks at no more than the used addresses and one.
func (r Range) next(last netip.Addr, used map[netip.Addr]bool) (netip.Addr, bool) {
	start := r.First
	if r.contains(last) && last != r.Last {
		start = last.Next()
	}
	for addr := start; ; {
		if !used[addr] {
			return addr, true
		}
		if addr == r.Last {
			addr = r.First
		} else {
			addr = addr.Next()
		}
		if addr == start {
			return netip.Addr{}, false
		}
	}
}

// lockFile takes the exclusive lock on path, waiting at most lockWait. The
// lock ends with unlock or with the process.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of the address state: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			// Closing releases the lock; nothing was written, so nothing can be lost.
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, types.NewError(types.ErrTryAgainLater, "lock "+path+": held by another call", ctx.Err().Error())
		case <-time.After(lockPoll):
		}
	}
}
