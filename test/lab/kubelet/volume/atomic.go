package volume

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// file is one file of a volume that mirrors API objects.
type file struct {
	data []byte
	mode os.FileMode
}

// dataLink is the name of the link that is swapped so that all files of a
// volume change at once. Names that begin with ".." belong to this package.
const dataLink = "..data"

// replace makes the folder hold exactly the files (by relative path), all of
// them changing at once for readers: they are written to a new folder, and one
// symbolic link is swapped. It does nothing if all is so already. group owns
// the files if it is not negative.
func replace(dir string, files map[string]file, group int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if old != "" && same(filepath.Join(dir, old), files) {
		return nil
	}
	fresh, err := os.MkdirTemp(dir, "..*"+time.Now().UTC().Format("_2006_01_02_15_04_05"))
	if err != nil {
		return err
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		return err
	}
	for name, f := range files {
		if err := writeFile(filepath.Join(fresh, name), f, group); err != nil {
			return err
		}
	}
	temporary := filepath.Join(dir, dataLink+"_tmp")
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(filepath.Base(fresh), temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, filepath.Join(dir, dataLink)); err != nil {
		return err
	}
	if err := links(dir, files); err != nil {
		return err
	}
	if old == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(dir, old))
}

func writeFile(path string, f file, group int) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, f.data, f.mode); err != nil {
		return err
	}
	if err := os.Chmod(path, f.mode); err != nil { // whatever the umask is
		return err
	}
	if group < 0 {
		return nil
	}
	return os.Chown(path, -1, group)
}

// links makes the names that readers use, and removes those of files gone.
func links(dir string, files map[string]file) error {
	want := map[string]bool{}
	for name := range files {
		top, _, _ := strings.Cut(name, "/")
		want[top] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case strings.HasPrefix(name, ".."):
		case want[name]:
			delete(want, name)
		default:
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	for name := range want {
		if err := os.Symlink(filepath.Join(dataLink, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// same says whether the folder holds exactly the files.
func same(dir string, files map[string]file) bool {
	seen := 0
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		want, ok := files[name]
		if !ok {
			return fmt.Errorf("%s is not wanted", name)
		}
		have, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if !bytes.Equal(have, want.data) || info.Mode().Perm() != want.mode {
			return fmt.Errorf("%s differs", name)
		}
		seen++
		return nil
	})
	return err == nil && seen == len(files)
}
