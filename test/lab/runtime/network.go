package runtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// network calls the node's CNI chain, as containerd does.
type network struct {
	confDir, cacheDir string
	binDirs           []string
}

func newNetwork(c Config) network {
	return network{confDir: c.CNIConfDir, cacheDir: c.CNICacheDir, binDirs: c.CNIBinDirs}
}

// client is made anew for every call: the library's own is not safe for
// concurrent use.
func (n network) client() *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(n.binDirs, n.cacheDir, nil)
}

// load reads the chain that counts now, the lexically first file, and checks
// that its plugins are there. Errors are an ErrNetwork.
func (n network) load() (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(n.confDir, []string{".conflist", ".conf", ".json"})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNetwork, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%w: no network config found in %s: cni plugin not initialized", ErrNetwork, n.confDir)
	}
	slices.Sort(files)
	list, err := loadFile(files[0])
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrNetwork, files[0], err)
	}
	for _, plugin := range list.Plugins {
		name := plugin.Network.Type
		found := slices.ContainsFunc(n.binDirs, func(dir string) bool {
			info, err := os.Stat(filepath.Join(dir, name))
			return err == nil && info.Mode()&0o111 != 0
		})
		if !found {
			return nil, fmt.Errorf("%w: cni plugin %q is not in %s", ErrNetwork, name, strings.Join(n.binDirs, ", "))
		}
	}
	return list, nil
}

// loadFile reads a chain, or a single plugin's configuration as a chain of one.
func loadFile(path string) (*libcni.NetworkConfigList, error) {
	if filepath.Ext(path) == ".conflist" {
		return libcni.NetworkConfFromFile(path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	plugin, err := libcni.NetworkPluginConfFromBytes(text)
	if err != nil {
		return nil, err
	}
	chain := struct {
		Name       string            `json:"name"`
		CNIVersion string            `json:"cniVersion"`
		Plugins    []json.RawMessage `json:"plugins"`
	}{plugin.Network.Name, plugin.Network.CNIVersion, []json.RawMessage{text}}
	if text, err = json.Marshal(chain); err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(text)
}

// add connects the sandbox through the chain.
func (n network) add(ctx context.Context, chain *libcni.NetworkConfigList, s sandboxRecord) ([]netip.Addr, error) {
	result, err := n.client().AddNetworkList(ctx, chain, attachment(s))
	if err != nil {
		return nil, fmt.Errorf("%w: CNI ADD: %w", ErrNetwork, err)
	}
	current, err := types100.NewResultFromResult(result)
	if err != nil {
		return nil, fmt.Errorf("%w: result of CNI ADD: %w", ErrNetwork, err)
	}
	var ips []netip.Addr
	for _, ip := range current.IPs {
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			ips = append(ips, addr.Unmap())
		}
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("%w: the result of CNI ADD has no address", ErrNetwork)
	}
	slices.SortStableFunc(ips, func(a, b netip.Addr) int { return cmp.Compare(a.BitLen(), b.BitLen()) })
	return ips, nil
}

// remove disconnects the sandbox through the chain that counts now, as containerd
// does, or if there is none through the one that connected it. It may be repeated.
func (n network) remove(ctx context.Context, s sandboxRecord) error {
	list, err := n.load()
	if err != nil {
		list, err = libcni.NetworkConfFromBytes(s.NetConf)
	}
	if err != nil {
		return fmt.Errorf("CNI DEL: %w", err)
	}
	rt := attachment(s)
	if !isNamespace(rt.NetNS) {
		rt.NetNS = "" // gone already: plugins then remove what is outside of it
	}
	if err := n.client().DelNetworkList(ctx, list, rt); err != nil {
		return fmt.Errorf("CNI DEL: %w", err)
	}
	return nil
}

// removeStale disconnects what the cache of CNI results knows and no sandbox
// does: left by a crash between ADD and its record, or by a reboot, which the
// cache survives. Everything is tried; the errors are joined.
func (n network) removeStale(ctx context.Context, known func(id string) bool) error {
	client := n.client()
	all, err := client.GetCachedAttachments("")
	if err != nil {
		return fmt.Errorf("read the CNI cache: %w", err)
	}
	var failed []error
	for _, a := range all {
		if known(a.ContainerID) {
			continue
		}
		list, err := libcni.NetworkConfFromBytes(a.Config)
		if err == nil {
			rt := &libcni.RuntimeConf{
				ContainerID: a.ContainerID, IfName: a.IfName, Args: a.CniArgs, CapabilityArgs: a.CapabilityArgs,
			}
			if isNamespace(a.NetNS) {
				rt.NetNS = a.NetNS
			}
			err = client.DelNetworkList(ctx, list, rt)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("CNI DEL of stale %s: %w", a.ContainerID, err))
		}
	}
	return errors.Join(failed...)
}

// attachment is what plugins are told of a sandbox.
func attachment(s sandboxRecord) *libcni.RuntimeConf {
	type portMapping struct {
		HostPort      int32  `json:"hostPort"`
		ContainerPort int32  `json:"containerPort"`
		Protocol      string `json:"protocol"`
		HostIP        string `json:"hostIP,omitempty"`
	}
	rt := &libcni.RuntimeConf{
		ContainerID: s.ID, NetNS: s.NetNS, IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", s.Namespace},
			{"K8S_POD_NAME", s.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", s.ID},
			{"K8S_POD_UID", s.UID},
		},
	}
	var ports []portMapping
	for _, p := range s.Config.PortMappings {
		protocol := strings.ToLower(cmp.Or(p.Protocol, "tcp"))
		ports = append(ports, portMapping{p.HostPort, p.ContainerPort, protocol, p.HostIP})
	}
	if len(ports) > 0 {
		rt.CapabilityArgs = map[string]any{"portMappings": ports} // the library's type
	}
	return rt
}
