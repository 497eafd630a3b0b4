package attach

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/overland-net/overland/pkg/model"
)

const (
	// FileName is the name of the file in the agent's state folder.
	FileName = "attachments.json"
	// fileVersion is that of the form of the file.
	fileVersion = 1
	// maxFile bounds what is read: 4,096 attachments take 1.5 MB.
	maxFile = 16 << 20
)

// file is the form of the file.
type file struct {
	Version     int          `json:"version"`
	BootID      string       `json:"bootID"`
	Attachments []remembered `json:"attachments"`
}

type remembered struct {
	ContainerID string       `json:"containerID"`
	IfName      string       `json:"ifName"`
	Namespace   string       `json:"namespace"`
	Pod         string       `json:"pod"`
	UID         string       `json:"uid,omitempty"`
	Interface   string       `json:"interface"`
	Index       int          `json:"index"`
	Addrs       []netip.Addr `json:"addresses"`
	Order       uint64       `json:"order"`
	Ended       bool         `json:"ended,omitempty"`
}

// read gives what is remembered of this boot: nothing of an earlier one, whose
// links are gone.
func read(path, bootID string) ([]model.Attachment, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which pods are connected: %w", err)
	}
	list, err := parse(text, bootID)
	if err != nil {
		return nil, fmt.Errorf("read which pods are connected: %s: %w", path, err)
	}
	return list, nil
}

func parse(text []byte, bootID string) ([]model.Attachment, error) {
	var f file
	if len(text) > maxFile {
		return nil, fmt.Errorf("it is damaged: more than %d bytes", maxFile)
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	if f.Version != fileVersion || f.BootID == "" {
		return nil, fmt.Errorf("it is damaged: version %d, boot %q", f.Version, f.BootID)
	}
	if f.BootID != bootID {
		return nil, nil
	}
	var list []model.Attachment
	for _, r := range f.Attachments {
		if r.ContainerID == "" || r.IfName == "" || r.Namespace == "" || r.Pod == "" || r.Interface == "" || r.Index <= 0 {
			return nil, fmt.Errorf("it is damaged: attachment %+v", r)
		}
		for _, a := range r.Addrs {
			if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
				return nil, fmt.Errorf("it is damaged: address %q of %s/%s", a, r.Namespace, r.Pod)
			}
		}
		list = append(list, model.Attachment{
			ContainerID: r.ContainerID, IfName: r.IfName, Pod: model.PodKey("", r.Namespace, r.Pod), UID: model.ParseUID(r.UID),
			Interface: r.Interface, Index: r.Index, Addrs: r.Addrs, Order: r.Order, Ended: r.Ended,
		})
	}
	return list, nil
}

// write replaces the file. It does not wait for the disk: after a crash of the
// machine it is of another boot, and of no use.
func write(path, bootID string, list []model.Attachment) error {
	f := file{Version: fileVersion, BootID: bootID, Attachments: make([]remembered, 0, len(list))}
	for _, a := range list {
		f.Attachments = append(f.Attachments, remembered{
			ContainerID: a.ContainerID, IfName: a.IfName, Namespace: a.Pod.Namespace, Pod: a.Pod.Name, UID: a.UID.String(),
			Interface: a.Interface, Index: a.Index, Addrs: a.Addrs, Order: a.Order, Ended: a.Ended,
		})
	}
	text, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("write which pods are connected: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write which pods are connected: %w", err)
	}
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return fmt.Errorf("write which pods are connected: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write which pods are connected: %w", err)
	}
	return nil
}

// Forget removes what is remembered in a folder. It is fine if there is nothing.
func Forget(dir string) error {
	for _, name := range []string{FileName, FileName + ".new"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget which pods are connected: %w", err)
		}
	}
	return nil
}
