package conflist

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// errNoPlugin is that there is no program to install.
var errNoPlugin = errors.New("our plugin is not there")

// plugin keeps a program of CNI's folder the same as the one that we have. It is
// for one goroutine.
type plugin struct {
	source    string
	dir, name string
	writer    writer

	// same are the two files when they were last found to be the same: what has
	// not changed since is not read again.
	same [2]stamp
}

// stamp tells whether a file may have changed.
type stamp struct {
	inode, size uint64
	mode        os.FileMode
	changed     time.Time
}

// install copies the program if it is not there. It tells whether it did.
func (p *plugin) install(path string) (bool, error) {
	source, err := stampOf(p.source)
	if err != nil {
		return false, fmt.Errorf("%w: %w", errNoPlugin, err)
	}
	if there, err := stampOf(path); err == nil {
		if p.same == [2]stamp{source, there} {
			return false, nil
		}
		if there.mode == pluginMode && p.equal(path) {
			p.same = [2]stamp{source, there}
			return false, nil
		}
	}
	if err := p.writer.replace(p.dir, p.name, pluginMode, p.copy); err != nil {
		return false, fmt.Errorf("install our plugin: %w", err)
	}
	return true, nil
}

func (p *plugin) copy(to io.Writer) error {
	from, err := os.Open(p.source)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only read from
	_, err = io.Copy(to, from)
	return err
}

// equal compares contents. Of what cannot be read, nothing is equal.
func (p *plugin) equal(path string) bool {
	a, err := digest(p.source)
	if err != nil {
		return false
	}
	b, err := digest(path)
	return err == nil && a == b
}

func digest(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer func() { _ = f.Close() }() // only read from
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

func stampOf(path string) (stamp, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return stamp{}, err
	}
	s := stamp{size: uint64(info.Size()), mode: info.Mode(), changed: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s, nil
}

// runnable tells whether a runtime could run the program.
func runnable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && info.Size() > 0
}
