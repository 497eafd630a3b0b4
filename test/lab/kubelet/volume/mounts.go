package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/test/lab/kubelet/podspec"
	"github.com/overland-net/overland/test/lab/runtime"
)

// Mounts lists what to mount in the container: its volumes (paths as returned
// by Setup), with subPath and subPathExpr applied.
func (m *Manager) Mounts(pod *v1.Pod, c *v1.Container, paths map[string]string, env map[string]string) ([]runtime.Mount, error) {
	var out []runtime.Mount
	for i, mount := range c.VolumeMounts {
		source, ok := paths[mount.Name]
		if !ok {
			return nil, fmt.Errorf("container %s mounts volume %q, which the pod does not have", c.Name, mount.Name)
		}
		sub := mount.SubPath
		if mount.SubPathExpr != "" {
			sub = podspec.Expand(mount.SubPathExpr, env)
		}
		if sub != "" {
			var err error
			name := fmt.Sprintf("%s-%d", c.Name, i)
			if source, err = m.subPath(pod, source, sub, name); err != nil {
				return nil, fmt.Errorf("subPath %q of volume %s: %w", sub, mount.Name, err)
			}
		}
		out = append(out, runtime.Mount{Source: source, Target: mount.MountPath, ReadOnly: mount.ReadOnly})
	}
	return out, nil
}

// subPath finds, or makes, the path in the volume without leaving it, and binds
// it at a place of its own: a file that is behind the swapped link of a mirrored
// volume must stay the one that the container began with.
func (m *Manager) subPath(pod *v1.Pod, volume, sub, name string) (string, error) {
	sub = filepath.Clean(sub)
	if filepath.IsAbs(sub) || sub == ".." || strings.HasPrefix(sub, "../") {
		return "", errors.New("it must not lead out of the volume")
	}
	root, err := os.OpenRoot(volume)
	if err != nil {
		return "", err
	}
	defer func() { _ = root.Close() }() // only read from
	info, err := root.Stat(sub)
	if errors.Is(err, os.ErrNotExist) {
		if err = root.MkdirAll(sub, 0o777); err == nil {
			info, err = root.Stat(sub)
		}
	}
	if err != nil {
		return "", err
	}
	f, err := root.Open(sub)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	target := filepath.Join(m.Dir(pod.UID), "subpaths", name)
	if err := point(target, info.IsDir()); err != nil {
		return "", err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return "", fmt.Errorf("bind it at %s: %w", target, err)
	}
	return target, nil
}

// point makes an empty mount point, in the place of an earlier one. It removes
// nothing but an empty placeholder, so that data can never be behind it.
func point(target string, dir bool) error {
	if err := unmount(target); err != nil {
		return err
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if dir {
		return os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return os.WriteFile(target, nil, 0o644)
}

// unmount unmounts everything that is mounted on the path.
func unmount(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil // nothing is mounted there (any more)
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
}
