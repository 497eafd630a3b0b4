package node

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/model"
)

// Start is what kind of start of the agent this is.
type Start uint8

// The kinds of starts.
const (
	// FirstInstall: this node has never had an agent, or it was uninstalled.
	// What runs goes on; nothing is dropped until the local cluster is known.
	FirstInstall Start = iota
	// Restart: the node runs since the agent was last here. What the kernel
	// enforces stays as it is until the local cluster is known.
	Restart
	// Reboot: the kernel has forgotten what it enforced.
	Reboot
	// Unknown: what was written down of this node cannot be read. Is what the
	// kernel enforces still there, it is a Restart, for rules do not outlive a
	// boot; else a Reboot.
	Unknown
)

// String is the word that people read.
func (s Start) String() string {
	switch s {
	case FirstInstall:
		return "first installation"
	case Restart:
		return "restart"
	case Reboot:
		return "reboot"
	}
	return "unknown"
}

const (
	fileName = "node.json"
	// fileVersion is that of the form of the file.
	fileVersion = 1
	// maxFile bounds what is read of a file: 1,000 interfaces take 40 KB.
	maxFile = 1 << 20
)

// file is the form of node.json.
type file struct {
	Version       int         `json:"version"`
	BootID        string      `json:"bootID"`
	InstallID     string      `json:"installID"`
	Grandfathered []namedLink `json:"grandfathered,omitempty"`
}

type namedLink struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
}

// State is what the agent remembers of its node, in node.json of a folder. It is
// for one goroutine.
type State struct {
	path   string
	file   file
	saved  bool
	damage error
}

// Begin reads what is remembered, decides what kind of start this is, and writes
// down that it was. present lists the pod interfaces; it is asked at a first
// installation only, where those that are there become grandfathered.
//
// An error with a State: it is good, but could not be written; Save tries again.
// What is on the disk then makes the next start of the same kind as this one.
func Begin(dir, bootIDFile string, present func() ([]model.Interface, error)) (*State, Start, error) {
	boot, err := readBootID(bootIDFile)
	if err != nil {
		return nil, Unknown, err
	}
	s := &State{path: filepath.Join(dir, fileName)}
	found, err := readFile(s.path)
	start := FirstInstall
	switch {
	case errors.Is(err, fs.ErrNotExist):
		list, err := present()
		if err != nil {
			return nil, FirstInstall, err
		}
		found = file{InstallID: newID(), Grandfathered: named(list)}
	case err != nil:
		start, s.damage = Unknown, err
		found = file{InstallID: newID()}
	case found.BootID == boot:
		s.file, s.saved = found, true
		return s, Restart, nil
	default:
		start = Reboot
		found.Grandfathered = nil // none of them outlives a boot
	}
	found.Version, found.BootID = fileVersion, boot
	s.file = found
	return s, start, s.Save()
}

// Damage is why what was written down could not be read; nil unless the start is
// Unknown.
func (s *State) Damage() error { return s.damage }

// InstallID tells installations on this node apart.
func (s *State) InstallID() string { return s.file.InstallID }

// BootID is that of this boot of the node.
func (s *State) BootID() string { return s.file.BootID }

// Grandfathered are the interfaces, by name and index, that were there before
// the first installation and of which no pod was ever known.
func (s *State) Grandfathered() []model.Interface {
	var list []model.Interface
	for _, l := range s.file.Grandfathered {
		list = append(list, model.Interface{Name: l.Name, Index: l.Index})
	}
	return list
}

// Keep forgets the grandfathered interfaces that list lacks, on the disk too.
func (s *State) Keep(list []model.Interface) error {
	stay := named(list)
	kept := slices.DeleteFunc(slices.Clone(s.file.Grandfathered), func(l namedLink) bool { return !slices.Contains(stay, l) })
	if len(kept) != len(s.file.Grandfathered) {
		s.file.Grandfathered, s.saved = kept, false
	}
	return s.Save()
}

// Save writes what is not written yet: whole, or not at all.
func (s *State) Save() error {
	if s.saved {
		return nil
	}
	if err := s.write(); err != nil {
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	s.saved = true
	return nil
}

func (s *State) write() error {
	text, err := json.MarshalIndent(s.file, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(s.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// One name for all: what a crash leaves is overwritten.
	next, err := os.OpenFile(s.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = next.Write(append(text, '\n'))
	err = errors.Join(err, next.Sync(), next.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(s.path+".new", s.path); err != nil {
		return err
	}
	return syncDir(dir)
}

// Forget removes what is remembered of the node in a folder: the next start is a
// first installation. It is fine if there is nothing.
func Forget(dir string) error {
	for _, name := range []string{fileName, fileName + ".new"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget the node: %w", err)
		}
	}
	if err := syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the node: %w", err)
	}
	return nil
}

// syncDir makes a rename or removal in a folder last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// errDamaged: the file is there, and is not what was written.
var errDamaged = errors.New("it is damaged")

func readFile(path string) (file, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return file{}, fmt.Errorf("read what is remembered of the node: %w", err)
	}
	f, err := parse(text)
	if err != nil {
		return file{}, fmt.Errorf("read what is remembered of the node: %s: %w", path, err)
	}
	return f, nil
}

func parse(text []byte) (file, error) {
	var f file
	if len(text) > maxFile {
		return f, fmt.Errorf("%w: more than %d bytes", errDamaged, maxFile)
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return file{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if f.Version != fileVersion || f.BootID == "" || f.InstallID == "" {
		return file{}, fmt.Errorf("%w: version %d, boot %q, installation %q", errDamaged, f.Version, f.BootID, f.InstallID)
	}
	return f, nil
}

func readBootID(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the id of this boot: %w", err)
	}
	id := strings.TrimSpace(string(text))
	if id == "" {
		return "", fmt.Errorf("read the id of this boot: %s is empty", path)
	}
	return id, nil
}

func named(list []model.Interface) []namedLink {
	var links []namedLink
	for _, l := range list {
		links = append(links, namedLink{l.Name, l.Index})
	}
	return links
}

// newID is 128 random bits.
func newID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // it never fails
	return hex.EncodeToString(id)
}
