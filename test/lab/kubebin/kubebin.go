// Package kubebin builds the lab's Kubernetes programs and keeps them in the
// user's cache folder, one set for each version of their source. It may import
// nothing of this repository.
package kubebin

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Version is the Kubernetes release that test/lab/kube/go.mod asks for.
const Version = "v1.37.1"

// Programs are the names by which the multi-call binary is called.
func Programs() []string {
	return []string{
		"agnhost", "coredns", "etcd", "kube-apiserver", "kube-controller-manager",
		"kube-proxy", "kube-scheduler", "kubectl",
	}
}

// portmapPackage is the CNI plugin that a node of Azure chains after its own;
// the module names it as a tool.
const portmapPackage = "github.com/containernetworking/plugins/plugins/meta/portmap"

// The two files of a set.
const (
	Kube    = "kube"
	Portmap = "portmap"
)

// Dir is the cache folder of the set that the source in module, the folder
// test/lab/kube of a checkout, makes; built tells whether it is there.
func Dir(module string) (dir string, built bool, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", false, fmt.Errorf("find the user's cache folder: %w", err)
	}
	key, err := sourceKey(module)
	if err != nil {
		return "", false, err
	}
	dir = filepath.Join(cache, "overland-lab", Version+"-"+key)
	for _, name := range []string{Kube, Portmap} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return dir, false, nil // not there: not built
		}
	}
	return dir, true, nil
}

// sourceKey is a digest of everything that decides what is built.
func sourceKey(module string) (string, error) {
	files, err := filepath.Glob(filepath.Join(module, "*.go"))
	if err != nil {
		return "", fmt.Errorf("list the source of the Kubernetes programs: %w", err)
	}
	slices.Sort(files)
	hash := sha256.New()
	_, _ = fmt.Fprintln(hash, runtime.Version(), runtime.GOARCH, flags()) // a hash takes everything
	for _, file := range append(files, filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")) {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read the source of the Kubernetes programs: %w", err)
		}
		_, _ = fmt.Fprintln(hash, filepath.Base(file), len(text)) // as above
		_, _ = hash.Write(text)                                   // as above
	}
	return hex.EncodeToString(hash.Sum(nil))[:12], nil
}

// flags make a small binary that knows its release.
func flags() []string {
	major, minor, _ := strings.Cut(strings.TrimPrefix(Version, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	values := []string{
		"gitVersion=" + Version, "gitMajor=" + major, "gitMinor=" + minor,
		"gitCommit=unknown", "gitTreeState=clean",
	}
	link := "-s -w"
	for _, v := range values {
		link += " -X k8s.io/component-base/version." + v
	}
	return []string{"-trimpath", "-ldflags", link}
}

// Build makes the set unless it is there, and returns its folder. It tells on
// out what it does and how far it is. Two builds at once wait for each other.
func Build(ctx context.Context, module string, out io.Writer) (string, error) {
	dir, built, err := Dir(module)
	if err != nil || built {
		return dir, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("lock the cache folder: %w", err)
	}
	defer func() { _ = lock.Close() }() // which unlocks
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock the cache folder %s: %w", dir, err)
	}
	if _, built, err := Dir(module); err != nil || built {
		return dir, err
	}
	say(out, "building the Kubernetes programs %s into %s: once, about 8 minutes on 2 cores", Version, dir)
	began := time.Now()
	for _, target := range []struct{ name, path string }{{Portmap, portmapPackage}, {Kube, "."}} {
		if err := build(ctx, module, target.path, filepath.Join(dir, target.name), out); err != nil {
			return "", err
		}
	}
	say(out, "built the Kubernetes programs in %s", time.Since(began).Round(time.Second))
	return dir, nil
}

func build(ctx context.Context, module, path, target string, out io.Writer) error {
	total, err := countPackages(ctx, module, path)
	if err != nil {
		return err
	}
	next := target + ".next"
	args := append(append([]string{"build", "-v"}, flags()...), "-o", next, path)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("build %s: %w", path, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("build %s: %w", path, err)
	}
	var compiled atomic.Int64
	watch, stop := context.WithCancel(ctx)
	defer stop()
	go progress(watch, out, &compiled, total)
	last := readPackages(stderr, &compiled)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("build %s: %w: %s", path, err, strings.Join(last, "; "))
	}
	if err := os.Rename(next, target); err != nil {
		return fmt.Errorf("build %s: %w", path, err)
	}
	return nil
}

// readPackages counts the packages that the compiler names, a line each, and
// returns the last lines, which tell what failed.
func readPackages(from io.Reader, compiled *atomic.Int64) (last []string) {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		compiled.Add(1)
		last = append(last, lines.Text())
		if len(last) > 8 {
			last = last[1:]
		}
	}
	return last
}

func progress(ctx context.Context, out io.Writer, compiled *atomic.Int64, total int) {
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Second):
		}
		say(out, "  %s: %d of at most %d packages compiled", time.Since(began).Round(time.Second), compiled.Load(), total)
	}
}

func countPackages(ctx context.Context, module, path string) (int, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", path)
	cmd.Dir = module
	text, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return 0, fmt.Errorf("list the packages of %s: %w: %s", path, err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return 0, fmt.Errorf("list the packages of %s: %w", path, err)
	}
	return strings.Count(string(text), "\n"), nil
}

// say writes a line for a person; a terminal that is gone is no failure.
func say(out io.Writer, format string, values ...any) {
	_, _ = fmt.Fprintf(out, format+"\n", values...)
}
