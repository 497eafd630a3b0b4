package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netns"

	"github.com/overland-net/overland/pkg/admin/api"
)

// firstPlugin is the test binary under a name of its own: the plugin that makes
// the link, with a result of Azure's shape.
const firstPlugin = "first-plugin"

func firstPluginMain() {
	nothing := func(*skel.CmdArgs) error { return nil }
	skel.PluginMainFuncs(skel.CNIFuncs{Add: firstAdd, Check: nothing, Del: nothing, GC: nothing, Status: nothing}, version.All, firstPlugin)
}

func firstAdd(args *skel.CmdArgs) error {
	var conf types.PluginConf
	if err := json.Unmarshal(args.StdinData, &conf); err != nil {
		return err
	}
	ns, err := netns.GetFromPath(args.Netns)
	if err != nil {
		return err
	}
	if err := addVeth("azv"+args.ContainerID, args.IfName, ns); err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	addr := netip.MustParseAddr("10.1.0.9")
	return types.PrintResult(&current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: []*current.Interface{{Name: args.IfName, Mac: "aa:bb:cc:dd:ee:ff"}},
		IPs:        []*current.IPConfig{{Address: net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(16, 32)}}},
	}, conf.CNIVersion)
}

func TestTheProgramServesARealRuntimesChain(t *testing.T) {
	folder := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(exe, filepath.Join(folder, firstPlugin)); err != nil {
		t.Fatal(err)
	}
	program := builtPlugin(t)
	if err := os.Symlink(program, filepath.Join(folder, PluginType)); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"0.3.0", "0.4.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			testChain(t, folder, version)
		})
	}
}

func testChain(t *testing.T, folder, version string) {
	n, agent := newNode(t), newAgent(t)
	list, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil, `{"cniVersion":%q,"name":"azure","plugins":[{"type":%q},`+
		`{"type":%q,"socket":%q,"timeoutSeconds":2,"capabilities":{"portMappings":true}}]}`, version, firstPlugin, PluginType, agent.socket))
	if err != nil {
		t.Fatal(err)
	}
	cni := libcni.NewCNIConfigWithCacheDir([]string{folder}, t.TempDir(), nil)
	pod := newNamespace(t)
	rt := &libcni.RuntimeConf{
		ContainerID: "c1", NetNS: pathOf(pod), IfName: "eth0",
		Args:           [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "shop"}, {"K8S_POD_NAME", "cart-0"}},
		CapabilityArgs: map[string]any{"portMappings": []any{}},
	}
	// in runs a call in the node's namespace, as the runtime's.
	in := func(f func(context.Context) error) error {
		return inNamespace(n.ns, func() error { return f(t.Context()) })
	}
	both := func(what string, f func(context.Context) error, wantAsked []request) {
		t.Helper()
		if err := in(f); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if diff := cmp.Diff(wantAsked, agent.taken(), cmpopts.IgnoreFields(api.CNIAttachment{}, "TimeoutMillis", "PeerIndex")); diff != "" {
			t.Errorf("%s: asked (-want +got):\n%s", what, diff)
		}
	}
	told := api.CNIAttachment{
		ContainerID: "c1", IfName: "eth0", Netns: rt.NetNS, Namespace: "shop", Pod: "cart-0", Addresses: []string{"10.1.0.9"},
	}
	var result types.Result
	both("ADD", func(ctx context.Context) (err error) {
		result, err = cni.AddNetworkList(ctx, list, rt)
		return err
	}, []request{{Path: api.PathCNIAdd, Attachment: told}})
	got, err := current.GetResult(result)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.IPs) != 1 || got.IPs[0].Address.String() != "10.1.0.9/16" || len(got.Interfaces) != 1 || got.Interfaces[0].Mac != "aa:bb:cc:dd:ee:ff" {
		t.Errorf("the chain's result is %v", got)
	}
	check := func(ctx context.Context) error { return cni.CheckNetworkList(ctx, list, rt) }
	valid := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: "c1", IfName: "eth0"}}}
	gc := func(ctx context.Context) error { return cni.GCNetworkList(ctx, list, valid) }
	status := func(ctx context.Context) error { return cni.GetStatusNetworkList(ctx, list) }
	if version != "0.3.0" { // where the runtime itself refuses
		both("CHECK", check, []request{{Path: api.PathCNICheck, Attachment: told}})
	}
	if version == "1.1.0" {
		both("GC", gc, []request{{Path: api.PathCNIGC, Valid: []api.CNIAttachmentID{{ContainerID: "c1", IfName: "eth0"}}}})
		both("STATUS", status, []request{{Path: api.PathCNIStatus}})
	}

	agent.set(func(a *fakeAgent) { a.code = api.CodeStarting })
	wantCode := func(what string, f func(context.Context) error, code uint) {
		t.Helper()
		err, e := in(f), (*types.Error)(nil)
		if !errors.As(err, &e) || e.Code != code {
			t.Errorf("%s of an agent that starts: %v, want code %d", what, err, code)
		}
	}
	if version == "1.1.0" {
		wantCode("STATUS", status, 50)
	}
	if version != "0.3.0" {
		wantCode("CHECK", check, 11)
	}
	again := *rt
	again.ContainerID, again.NetNS = "c2", pathOf(newNamespace(t))
	wantCode("ADD", func(ctx context.Context) error { _, err := cni.AddNetworkList(ctx, list, &again); return err }, 11)
	agent.taken()

	gone := api.CNIAttachment{ContainerID: "c1", IfName: "eth0"}
	for range 2 {
		both("DEL", func(ctx context.Context) error { return cni.DelNetworkList(ctx, list, rt) }, []request{{Path: api.PathCNIDelete, Attachment: gone}})
	}
}

// BenchmarkVersion is what a runtime pays for starting the program at all.
func BenchmarkVersion(b *testing.B) {
	n, program := newNode(b), builtPlugin(b)
	for b.Loop() {
		n.mustCall(call{program: program, command: "VERSION"})
	}
}

// BenchmarkAdd is an ADD of which the agent takes no time.
func BenchmarkAdd(b *testing.B) {
	n, agent, program := newNode(b), newAgent(b), builtPlugin(b)
	pod := n.sandbox("azv1")
	for b.Loop() {
		if a := n.mustCall(call{
			program: program, command: "ADD", container: "c1", netns: pod.netns, ifName: "eth0", args: podOfShop,
			stdin: conf("0.3.0", agent.socket, withResult("")),
		}); a.status != 0 {
			b.Fatal(a)
		}
	}
}
