package conflist

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	listMode   fs.FileMode = 0o600
	pluginMode fs.FileMode = 0o755
)

// errIrregular is what is no file to be read.
var errIrregular = errors.New("it is not a regular file")

// derive is our list for the folder as it is, and the path of what it is made
// from. The error is a *Refusal, or that of a folder that cannot be read, which
// says nothing of what the runtime would do.
func derive(dir string, entry []byte) (text []byte, source string, err error) {
	for range 3 {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, "", fmt.Errorf("list CNI's folder: %w", err)
		}
		var names []string
		for _, e := range entries {
			if !e.IsDir() {
				names = append(names, e.Name())
			}
		}
		name, err := Source(names)
		if err != nil {
			return nil, "", err
		}
		path := filepath.Join(dir, name)
		theirs, err := readFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // it went meanwhile, or is a link to nothing: the next look tells
		case errors.Is(err, errIrregular):
			return nil, "", refuse(Damaged, "%s: %v: the list of Azure CNI is expected", name, err)
		case err != nil:
			return nil, "", fmt.Errorf("read Azure's list: %w", err)
		}
		text, err := Derive(name, theirs, entry)
		return text, path, err
	}
	return nil, "", refuse(Damaged, "the first list in %s cannot be opened: it is a link to nothing, or is replaced again and again", dir)
}

// readFile reads the beginning of a file, a byte more than a list may have. It
// waits for nobody, as reading a pipe would.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errIrregular
	}
	return io.ReadAll(io.LimitReader(f, maxText+1))
}

// holds tells whether a file is as it should be. What cannot be read is not: it
// is written anew.
func holds(path string, mode fs.FileMode, text []byte) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != mode {
		return false
	}
	have, err := readFile(path)
	return err == nil && bytes.Equal(have, text)
}

// exists tells whether there is a file of ours, whatever it has.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// RemoveList removes our list from CNI's folder and tells whether there was one.
// A folder that is not there is fine.
func RemoveList(dir string) (bool, error) {
	there := exists(filepath.Join(dir, FileName))
	return there, removeFrom(dir, FileName)
}

// RemovePlugin removes our plugin from CNI's folder of programs. Programs that run
// from it go on. A runtime that has read our list and not yet learnt that it is
// gone could not start pods without it: see Drain.
func RemovePlugin(dir, name string) error { return removeFrom(dir, name) }

func removeFrom(dir, name string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	path := filepath.Join(dir, name)
	there := exists(path)
	err := errors.Join(removeFile(path), sweep(dir))
	if err == nil && there {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}
