package conflist

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A file that is being written is named so that no runtime looks at it.
const (
	tempPrefix = ".overland-"
	tempSuffix = ".tmp"
)

// writer puts files into folders, each whole or not at all.
type writer struct {
	// renaming, if not nil, is called before a file gets its name: tests end the
	// process there.
	renaming func(temp string)
}

// replace puts what fill writes at dir/name. What was there stays until the new
// one is on the disk, and a program that runs from it goes on. Others may do the
// same at the same time: the last one wins.
func (w writer) replace(dir, name string, mode fs.FileMode, fill func(io.Writer) error) error {
	path := filepath.Join(dir, name)
	held, err := written(dir, mode, fill)
	if err != nil {
		return of(path, err)
	}
	defer func() { _ = held.Close() }() // only read from
	err = held.Sync()
	if err == nil {
		if w.renaming != nil {
			w.renaming(held.Name())
		}
		err = os.Rename(held.Name(), path)
	}
	if err != nil {
		_ = os.Remove(held.Name()) // else sweep does
		return of(path, err)
	}
	return syncDir(dir)
}

// of is an error about the file itself: what it is called while it is written
// differs each time, and nobody knows it.
func of(path string, err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return &fs.PathError{Op: e.Op, Path: path, Err: e.Err}
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return &fs.PathError{Op: e.Op, Path: path, Err: e.Err}
	}
	return fmt.Errorf("%s: %w", path, err)
}

// written is a new file of dir with what fill writes, open for reading and
// locked, so that sweep leaves it alone until it is closed, by us or by our end.
//
// Nothing is forked while it is open for writing: a process that is starting
// would have it open too, for a moment, and to execute it would then fail
// (ETXTBSY).
func written(dir string, mode fs.FileMode, fill func(io.Writer) error) (held *os.File, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	out, err := os.CreateTemp(dir, tempPrefix+"*"+tempSuffix)
	if err != nil {
		return nil, err
	}
	if held, err = os.Open(out.Name()); err == nil {
		err = unix.Flock(int(held.Fd()), unix.LOCK_EX)
	}
	if err == nil {
		err = fill(out)
	}
	if err = errors.Join(err, out.Chmod(mode), out.Close()); err != nil {
		_ = os.Remove(out.Name()) // else sweep does
		if held != nil {
			_ = held.Close() // only read from
		}
		return nil, err
	}
	return held, nil
}

// sweep removes what writes have left that were interrupted.
func sweep(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"+tempSuffix))
	if err != nil {
		return err
	}
	var failed []error
	for _, path := range names {
		failed = append(failed, sweepOne(path))
	}
	return errors.Join(failed...)
}

func sweepOne(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read from
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // somebody writes it
	}
	return removeFile(path)
}

// removeFile is fine with a file that is not there.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
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

// advice is an error with what to do about it.
func advice(err error) error {
	var what string
	switch {
	case errors.Is(err, errNoPlugin):
		what = "the agent's image lacks it, or cniPlugin of the configuration is wrong"
	case errors.Is(err, unix.EROFS):
		what = "the DaemonSet must mount this folder of the node to be written to"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		what = "the disk is full: free space on the node"
	case errors.Is(err, fs.ErrPermission):
		what = "look at owner, mode and attributes of that folder on the node: it must be root's"
	case errors.Is(err, fs.ErrNotExist):
		what = "the DaemonSet must mount this folder of the node (hostPath, DirectoryOrCreate)"
	default:
		what = "look at that file on the node"
	}
	return fmt.Errorf("%s: %s; trying again", strings.ReplaceAll(err.Error(), "\n", ", "), what)
}
