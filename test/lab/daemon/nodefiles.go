package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/azurecni"
	"github.com/overland-net/overland/test/lab/control"
	"github.com/overland-net/overland/test/lab/kubelet"
	"github.com/overland-net/overland/test/lab/rootfs"
	"github.com/overland-net/overland/test/lab/runtime"
	"github.com/overland-net/overland/test/lab/topology"
)

// nodeBin is where a node has the lab's programs.
const nodeBin = "/opt/lab/bin"

// nodeBootID is where a node finds its boot id: the machine's own would stay
// the same over a node's reboot.
const nodeBootID = "/proc/sys/kernel/random/boot_id"

// writeFiles makes the folders and files of a node that outlive its reboots.
func (n *node) writeFiles() error {
	for _, dir := range []string{
		"root", "etc/cni/net.d", "etc/alternatives", "opt/cni/bin", "opt/lab/bin",
		"var/lib/overland", "var/lib/cni", "var/lib/kubelet", "var/log/pods", "var/tmp",
	} {
		if err := os.MkdirAll(filepath.Join(n.dir, dir), 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	if err := n.cluster.NodeFiles(n.Node, filepath.Join(n.dir, control.NodeCredentials)); err != nil {
		return err
	}
	config, err := json.MarshalIndent(n.kubeletConfig(), "", "  ")
	if err != nil {
		return fmt.Errorf("encode the kubelet's configuration: %w", err)
	}
	files := map[string]string{
		control.KubeletConfig: string(config),
		"etc/hostname":        n.Name + "\n",
		"etc/hosts":           "127.0.0.1 localhost\n::1 localhost\n" + n.Addresses.V4.String() + " " + n.Name + "\n",
		"etc/resolv.conf":     "# A node of the lab has no name server of its own.\n",
		"etc/nsswitch.conf":   "passwd: files\ngroup: files\nhosts: files dns\n",
		"etc/passwd":          "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
		"etc/group":           "root:x:0:\nnogroup:x:65534:\n",
	}
	for path, text := range files {
		if err := os.WriteFile(filepath.Join(n.dir, path), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write file: %w", err)
		}
	}
	if err := n.linkAlternatives(); err != nil {
		return err
	}
	if err := link("/run", filepath.Join(n.dir, "var/run")); err != nil {
		return err
	}
	for _, plugin := range []struct{ name, target string }{
		{"azure-vnet", nodeBin + "/lab"}, {"portmap", nodeBin + "/portmap"},
	} {
		if err := link(plugin.target, filepath.Join(n.dir, "opt/cni/bin", plugin.name)); err != nil {
			return err
		}
	}
	return nil
}

// openNetwork writes the CNI configuration, without which a node is not Ready,
// once kube-proxy has written its rules: a pod that calls the API server's
// Service before would go on sending to nowhere for half a minute. Azure's node
// service, too, holds the file back until the node's network is complete. It
// stays over reboots.
func (n *node) openNetwork(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	if err := n.awaitServiceRules(limit); err != nil {
		return err
	}
	path := filepath.Join(n.dir, "etc/cni/net.d", azurecni.ConflistName)
	next := path + ".next" // an ending that is no CNI configuration's
	if err := os.WriteFile(next, azurecni.Conflist(n.cniConfig()), 0o600); err != nil {
		return fmt.Errorf("node %s: write the CNI configuration: %w", n.Path(), err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("node %s: write the CNI configuration: %w", n.Path(), err)
	}
	return nil
}

// linkAlternatives gives the node the machine's alternatives, except that
// iptables is of the backend that the lab's options ask for.
func (n *node) linkAlternatives() error {
	const dir = "/etc/alternatives"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list the machine's alternatives: %w", err)
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // not a link: no alternative
		}
		if strings.HasPrefix(e.Name(), "iptables") || strings.HasPrefix(e.Name(), "ip6tables") {
			family, rest, _ := strings.Cut(e.Name(), "tables")
			target = "/usr/sbin/" + family + "tables-" + n.daemon.lab.Options.Iptables + rest
		}
		if err := link(target, filepath.Join(n.dir, dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func link(target, path string) error {
	if err := os.Symlink(target, path); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("link file: %w", err)
	}
	return nil
}

// root is the node's root file system: the machine's programs, folders of its
// own, and a fresh view of its own namespaces.
func (n *node) root() (rootfs.Spec, error) {
	system, links, err := rootfs.System()
	if err != nil {
		return rootfs.Spec{}, err
	}
	devices, deviceLinks := rootfs.Devices()
	for path, target := range deviceLinks {
		links[path] = target
	}
	own := func(name string) rootfs.Mount {
		return rootfs.Mount{Source: filepath.Join(n.dir, name), Target: "/" + name}
	}
	mounts := append(system, devices...)
	mounts = append(mounts,
		rootfs.Mount{Source: "/dev/net/tun", Target: "/dev/net/tun"},
		own("etc"), own("opt"), own("var"),
		rootfs.Mount{Source: n.daemon.dir.Bin(), Target: nodeBin, ReadOnly: true},
		rootfs.Mount{Type: "tmpfs", Target: "/run", Data: "mode=0755,size=256m"},
		rootfs.Mount{Type: "tmpfs", Target: "/tmp", Data: "mode=1777,size=256m"},
		rootfs.Mount{Type: "tmpfs", Target: "/root", Data: "mode=0700,size=16m"},
		rootfs.Mount{Type: "proc", Target: "/proc"},
		rootfs.Mount{Source: n.bootIDFile(), Target: nodeBootID, ReadOnly: true},
		rootfs.Mount{Type: "sysfs", Target: "/sys"},
		rootfs.Mount{Type: "bpf", Target: "/sys/fs/bpf", Data: "mode=0700"},
	)
	for _, path := range []string{"/etc/ssl", "/etc/protocols", "/etc/services", "/etc/ethertypes", "/etc/ld.so.cache"} {
		if _, err := os.Stat(path); err == nil {
			mounts = append(mounts, rootfs.Mount{Source: path, Target: path, ReadOnly: true})
		}
	}
	return rootfs.Spec{Dir: filepath.Join(n.dir, "root"), Mounts: mounts, Links: links}, nil
}

func (n *node) cniConfig() azurecni.Config {
	config := azurecni.Config{Ranges: []azurecni.Range{
		{Subnet: n.cluster.VNet.V4, First: n.Pods.V4.First, Last: n.Pods.V4.Last},
	}}
	if n.Pods.V6.First.IsValid() {
		config.Ranges = append(config.Ranges, azurecni.Range{First: n.Pods.V6.First, Last: n.Pods.V6.Last})
	}
	return config
}

func (n *node) kubeletConfig() kubelet.Config {
	credential := func(name string) string { return control.NodeCredentials + "/" + name }
	return kubelet.Config{
		NodeName:    n.Name,
		Addresses:   topology.Addrs(n.Addresses),
		Kubeconfig:  credential("kubelet.kubeconfig"),
		ServingCert: credential("kubelet.crt"),
		ServingKey:  credential("kubelet.key"),
		ClientCA:    credential("ca.crt"),
		Runtime: runtime.Config{
			Dir: "/run/lab/runtime", LogDir: "/var/log/pods",
			CNIConfDir: "/etc/cni/net.d", CNIBinDirs: []string{"/opt/cni/bin"}, CNICacheDir: "/var/lib/cni",
			NetNSDir: netnsDir, Programs: nodeBin, Self: nodeBin + "/lab",
		},
		ClusterDNS: topology.Addrs(n.cluster.DNS),
		Labels: map[string]string{
			"topology.kubernetes.io/region": n.Cluster,
			"topology.kubernetes.io/zone":   fmt.Sprintf("%s-%d", n.Cluster, n.Number),
		},
		// A tenth of the real delay: tests wait for restarts.
		CrashBackoff: metav1.Duration{Duration: time.Second},
	}
}
