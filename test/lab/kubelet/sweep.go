package kubelet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// sweep removes the volumes and logs of pods that are not here any more, and
// that the runtime does not know either: the node was rebooted since.
func (k *Kubelet) sweep(here map[types.UID]bool) {
	known, err := k.volumes.Known()
	if err != nil {
		k.log.WithError(err).Warn("cannot look for volumes of pods that are gone")
	}
	for _, uid := range known {
		if here[uid] {
			continue
		}
		if err := k.volumes.Teardown(uid); err != nil {
			k.log.WithError(err).Warn("cannot remove the volumes of a pod that is gone")
		}
	}
	logs, err := filepath.Glob(filepath.Join(k.cfg.Runtime.LogDir, "*_*_*"))
	if err != nil {
		k.log.WithError(err).Warn("cannot look for logs of pods that are gone")
	}
	for _, dir := range logs {
		uid := types.UID(dir[strings.LastIndexByte(dir, '_')+1:])
		if here[uid] {
			continue
		}
		if err := k.removeLogs(uid); err != nil {
			k.log.WithError(err).Warn("cannot remove the logs of a pod that is gone")
		}
	}
}

// removeLogs removes the pod's folder of logs, NAMESPACE_NAME_UID, also what is
// left there of the time before a reboot.
func (k *Kubelet) removeLogs(uid types.UID) error {
	if k.cfg.Runtime.LogDir == "" || uid == "" {
		return nil
	}
	found, err := filepath.Glob(filepath.Join(k.cfg.Runtime.LogDir, "*_*_"+string(uid)))
	if err != nil {
		return fmt.Errorf("look for logs: %w", err)
	}
	for _, dir := range found {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove logs: %w", err)
		}
	}
	return nil
}
