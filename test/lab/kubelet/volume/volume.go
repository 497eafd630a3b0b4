package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/overland-net/overland/test/lab/kubelet/podspec"
)

// Objects reads what volumes mirror. ConfigMap and Secret return the API's
// error for an object that is not there.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*v1.Secret, error)
	// Token asks for a token of the pod's ServiceAccount.
	Token(ctx context.Context, pod *v1.Pod, ask *v1.ServiceAccountTokenProjection) (token string, expires time.Time, err error)
}

// Manager makes volumes. It is safe for concurrent use for different pods.
type Manager struct {
	dir         string
	objects     Objects
	allocatable v1.ResourceList

	mu     sync.Mutex
	tokens map[tokenKey]token
}

type tokenKey struct {
	pod              types.UID
	volume, audience string
}

type token struct {
	text            string
	issued, expires time.Time
}

// NewManager makes volumes below dir (/var/lib/kubelet/pods). allocatable is
// what a resourceFieldRef reads where a container has no limit.
func NewManager(dir string, objects Objects, allocatable v1.ResourceList) *Manager {
	return &Manager{dir: dir, objects: objects, allocatable: allocatable, tokens: map[tokenKey]token{}}
}

// Mirrors says whether the pod has volumes that follow changing things, so that
// Setup has to be called from time to time.
func Mirrors(pod *v1.Pod) bool {
	for _, v := range pod.Spec.Volumes {
		if v.ConfigMap != nil || v.Secret != nil || v.Projected != nil || v.DownwardAPI != nil {
			return true
		}
	}
	return false
}

// Setup makes the pod's volumes, or brings them up to date, and returns their
// folders (or files) by name.
func (m *Manager) Setup(ctx context.Context, pod *v1.Pod, at podspec.Addresses) (map[string]string, error) {
	paths := map[string]string{}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		path, err := m.setup(ctx, pod, v, at)
		if err != nil {
			return nil, fmt.Errorf("set up volume %s: %w", v.Name, err)
		}
		paths[v.Name] = path
	}
	return paths, nil
}

func (m *Manager) setup(ctx context.Context, pod *v1.Pod, v *v1.Volume, at podspec.Addresses) (string, error) {
	if v.HostPath != nil {
		return v.HostPath.Path, hostPath(v.HostPath)
	}
	if v.EmptyDir != nil {
		path := m.path(pod.UID, "empty-dir", v.Name)
		return path, emptyDir(path, v.EmptyDir, groupOf(pod))
	}
	files, err := m.payload(ctx, pod, v, at)
	if err != nil {
		return "", err
	}
	if group := groupOf(pod); group >= 0 {
		for name, f := range files {
			f.mode |= 0o440
			files[name] = f
		}
	}
	path := m.path(pod.UID, "mirrored", v.Name)
	return path, replace(path, files, groupOf(pod))
}

func (m *Manager) path(pod types.UID, kind, name string) string {
	return filepath.Join(m.dir, string(pod), "volumes", kind, name)
}

// Dir is the pod's folder on the node.
func (m *Manager) Dir(pod types.UID) string { return filepath.Join(m.dir, string(pod)) }

// Teardown removes all that Setup made for the pod.
func (m *Manager) Teardown(pod types.UID) error {
	m.mu.Lock()
	for key := range m.tokens {
		if key.pod == pod {
			delete(m.tokens, key)
		}
	}
	m.mu.Unlock()
	for _, pattern := range []string{"volumes/empty-dir/*", "subpaths/*"} {
		found, err := filepath.Glob(filepath.Join(m.Dir(pod), pattern))
		if err != nil {
			return fmt.Errorf("remove the volumes of pod %s: %w", pod, err)
		}
		for _, path := range found {
			if err := unmount(path); err != nil {
				return err
			}
		}
	}
	if err := os.RemoveAll(m.Dir(pod)); err != nil {
		return fmt.Errorf("remove the volumes of pod %s: %w", pod, err)
	}
	return nil
}

// Known lists the pods that have a folder.
func (m *Manager) Known() ([]types.UID, error) {
	entries, err := os.ReadDir(m.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list pods' folders: %w", err)
	}
	var out []types.UID
	for _, entry := range entries {
		out = append(out, types.UID(entry.Name()))
	}
	return out, nil
}

// groupOf is the group that owns the pod's volumes, or -1.
func groupOf(pod *v1.Pod) int {
	if s := pod.Spec.SecurityContext; s != nil && s.FSGroup != nil {
		return int(*s.FSGroup)
	}
	return -1
}

func emptyDir(path string, v *v1.EmptyDirVolumeSource, group int) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(path, 0o777); err != nil {
			return err
		}
	}
	if v.Medium == v1.StorageMediumMemory {
		if err := memory(path, v); err != nil {
			return err
		}
	}
	mode := os.FileMode(0o777)
	if group >= 0 {
		mode |= os.ModeSetgid // new files belong to the group too
		if err := os.Chown(path, -1, group); err != nil {
			return err
		}
	}
	return os.Chmod(path, mode)
}

func memory(path string, v *v1.EmptyDirVolumeSource) error {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		return err
	}
	var above unix.Stat_t
	var self unix.Stat_t
	if err := errors.Join(unix.Stat(filepath.Dir(path), &above), unix.Stat(path, &self)); err != nil {
		return err
	}
	if stat.Type == unix.TMPFS_MAGIC && above.Dev != self.Dev {
		return nil // mounted earlier
	}
	size := "64m" // enough for tests, and it cannot eat the machine's memory
	if v.SizeLimit != nil && !v.SizeLimit.IsZero() {
		size = fmt.Sprint(v.SizeLimit.Value())
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID, "mode=0777,size="+size); err != nil {
		return fmt.Errorf("mount memory at %s: %w", path, err)
	}
	return nil
}

// hostPath checks, or makes, what a hostPath volume names.
func hostPath(v *v1.HostPathVolumeSource) error {
	kind := v1.HostPathUnset
	if v.Type != nil {
		kind = *v.Type
	}
	switch kind {
	case v1.HostPathUnset:
		// The container runtimes make a folder where there is nothing.
		if _, err := os.Stat(v.Path); errors.Is(err, os.ErrNotExist) {
			return os.MkdirAll(v.Path, 0o755)
		}
		return nil
	case v1.HostPathDirectoryOrCreate:
		if err := os.MkdirAll(v.Path, 0o755); err != nil {
			return err
		}
	case v1.HostPathFileOrCreate:
		f, err := os.OpenFile(v.Path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	info, err := os.Stat(v.Path)
	if err != nil {
		return fmt.Errorf("hostPath type check failed: %w", err)
	}
	if !isKind(info.Mode(), kind) {
		return fmt.Errorf("hostPath type check failed: %s is not of type %s", v.Path, kind)
	}
	return nil
}

func isKind(mode os.FileMode, kind v1.HostPathType) bool {
	switch kind {
	case v1.HostPathDirectory, v1.HostPathDirectoryOrCreate:
		return mode.IsDir()
	case v1.HostPathFile, v1.HostPathFileOrCreate:
		return mode.IsRegular()
	case v1.HostPathSocket:
		return mode&os.ModeSocket != 0
	case v1.HostPathCharDev:
		return mode&os.ModeCharDevice != 0
	case v1.HostPathBlockDev:
		return mode&os.ModeDevice != 0 && mode&os.ModeCharDevice == 0
	}
	return true
}
