package labtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/overland-net/overland/test/lab/ns"
)

// pluginFolder is where a node has its plugins.
const pluginFolder = "/opt/cni/bin"

// CNI calls the plugins of a node with the library that container runtimes use, as
// one would that knows nothing of the node's own runtime: with a cache and network
// namespaces of its own. Its methods may be called from any goroutine.
type CNI struct {
	t     testing.TB
	lab   *Lab
	node  string
	where ns.Set
	cache string
}

// NewCNI is for a node, named CLUSTER/NODE, until it is rebooted.
func (l *Lab) NewCNI(t testing.TB, node string) *CNI {
	t.Helper()
	where, err := l.Daemon.NodeNamespaces(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}
	return &CNI{t: t, lab: l, node: node, where: where, cache: t.TempDir()}
}

// List is the list of plugins in a file of the node's.
func (c *CNI) List(path string) *libcni.NetworkConfigList {
	c.t.Helper()
	list, err := libcni.NetworkConfFromBytes([]byte(c.lab.MustNodeExec(c.t, c.node, "cat", path)))
	if err != nil {
		c.t.Fatalf("%s of %s: %v", path, c.node, err)
	}
	return list
}

// Attachment makes a network namespace on the node, until the test ends, with the
// container's ID as its name, and gives what plugins are told of it for a pod.
func (c *CNI) Attachment(id string, p *Pod) *libcni.RuntimeConf {
	c.t.Helper()
	path := "/run/" + id + ".net"
	// `ip netns` would turn the folder in which the node's runtime has its own into a
	// mount of its own, over theirs.
	c.lab.MustNodeExec(c.t, c.node, "sh", "-ec", `touch "$1"; unshare --net="$1" ip link set lo up`, "sh", path)
	c.t.Cleanup(func() { c.Forget(&libcni.RuntimeConf{NetNS: path}) })
	return &libcni.RuntimeConf{
		ContainerID: id, NetNS: path, IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", p.Namespace},
			{"K8S_POD_NAME", p.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", id},
			{"K8S_POD_UID", p.UID},
		},
	}
}

// Forget removes the network namespaces of attachments, unless that was done.
func (c *CNI) Forget(attachments ...*libcni.RuntimeConf) {
	c.t.Helper()
	args := []string{"sh", "-c", `for path; do if [ -e "$path" ]; then umount "$path"; rm "$path"; fi; done`, "sh"}
	for _, rt := range attachments {
		args = append(args, rt.NetNS)
	}
	c.lab.MustNodeExec(c.t, c.node, args...)
}

// From sends probes from an attachment's network namespace.
func (c *CNI) From(rt *libcni.RuntimeConf) Source {
	return Source{name: "container " + rt.ContainerID, probe: func(ctx context.Context, args []string) (Output, error) {
		cmd := exec.CommandContext(ctx, "/usr/bin/nsenter", append([]string{"--net=" + rt.NetNS, "/opt/lab/bin/netprobe"}, args...)...)
		cmd.Dir, cmd.Env = "/", []string{nodePath}
		return run(cmd, c.where)
	}}
}

// Add connects an attachment.
func (c *CNI) Add(ctx context.Context, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) (types.Result, error) {
	return c.client().AddNetworkList(ctx, list, rt)
}

// TimedAdd is Add that also tells how long each plugin took, by its type.
func (c *CNI) TimedAdd(ctx context.Context, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) (types.Result, map[string]time.Duration, error) {
	plugins := &nodePlugins{where: c.where, took: map[string]time.Duration{}}
	client := libcni.NewCNIConfigWithCacheDir([]string{pluginFolder}, c.cache, plugins)
	result, err := client.AddNetworkList(ctx, list, rt)
	return result, plugins.took, err
}

// Del disconnects an attachment.
func (c *CNI) Del(ctx context.Context, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
	return c.client().DelNetworkList(ctx, list, rt)
}

// client is made anew for every call: it is not safe for concurrent use.
func (c *CNI) client() *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir([]string{pluginFolder}, c.cache, &nodePlugins{where: c.where})
}

// nodePlugins runs plugins in a node's namespaces, of whose root paths are.
type nodePlugins struct {
	version.PluginDecoder
	where ns.Set
	took  map[string]time.Duration // by plugin; nil: nobody asks
}

func (p *nodePlugins) FindInPath(plugin string, paths []string) (string, error) {
	return filepath.Join(paths[0], plugin), nil
}

func (p *nodePlugins) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Dir, cmd.Env = "/", environ
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	if p.took != nil {
		began := time.Now()
		defer func() { p.took[filepath.Base(path)] = time.Since(began) }()
	}
	err := p.where.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err == nil {
		return stdout.Bytes(), nil
	}
	said := &types.Error{}
	if json.Unmarshal(stdout.Bytes(), said) == nil && said.Code != 0 {
		return nil, said
	}
	return nil, fmt.Errorf("plugin %s: %w: %s%s", path, err, stdout.String(), stderr.String())
}
