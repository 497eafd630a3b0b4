//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/overland-net/overland/test/lab/daemon"
	"github.com/overland-net/overland/test/lab/state"
)

// lab is what all commands share.
type lab struct {
	state  string // as given
	dir    state.Dir
	client *daemon.Client
	out    io.Writer
}

const modulePath = "github.com/overland-net/overland"

// checkout finds the repository around the working folder.
func checkout() (string, error) {
	at, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module "+modulePath+"\n") {
			return at, nil
		}
		if filepath.Dir(at) == at {
			return "", errors.New("not inside a checkout of " + modulePath)
		}
		at = filepath.Dir(at)
	}
}

// resolve decides which lab the command is about.
func (l *lab) resolve() error {
	path := l.state
	if path == "" {
		path = os.Getenv("OVERLAND_LAB")
	}
	if path == "" {
		root, err := checkout()
		if err != nil {
			return fmt.Errorf("%w; name the lab with --state or OVERLAND_LAB", err)
		}
		path = filepath.Join(root, ".lab")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	l.dir = state.Dir(path)
	l.client = daemon.NewClient(l.dir)
	return nil
}

// running is the lab's first process, or an error that says there is none.
func (l *lab) running() (state.Process, error) {
	p, ok, err := l.dir.Recorded()
	if err != nil {
		return p, err
	}
	if !ok || !p.Alive() {
		return p, fmt.Errorf("no lab is up in %s; `lab up` starts one", l.dir)
	}
	if os.Geteuid() != 0 {
		return p, errors.New("needs root: the lab's namespaces are the machine administrator's")
	}
	return p, nil
}

// say writes a line for the person at the terminal; one that is gone is no
// reason to stop.
func (l *lab) say(format string, values ...any) {
	_, _ = fmt.Fprintf(l.out, format+"\n", values...)
}
