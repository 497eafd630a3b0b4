package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

func environment(m map[string]string) func(string) string {
	return func(k string) string { return m[k] }
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestFlagsWinOverTheFileAndTheFileOverDefaults(t *testing.T) {
	file := write(t, "clusterName: west\npeerScope: mesh\npodCIDRs: [10.1.0.0/16]\nclusterLabels: {region: west}\n")
	c, err := load([]string{"--config", file, "--peer-scope=local", "--log-level", "debug"},
		environment(map[string]string{"NODE_NAME": "node-1", "POD_NAMESPACE": "elsewhere"}))
	if err != nil {
		t.Fatal(err)
	}
	if c.ClusterName != "west" || c.PeerScope != "local" || c.LogLevel != "debug" || c.NodeName != "node-1" ||
		c.Namespace != "elsewhere" || len(c.PodCIDRs) != 1 || c.ClusterLabels["region"] != "west" ||
		c.AdminSocket != "/run/overland/admin.sock" {
		t.Errorf("got %+v", c)
	}
}

func TestBadConfigurationNamesFieldAndExpectation(t *testing.T) {
	good := "clusterName: west\n"
	for name, tt := range map[string]struct {
		file string
		args []string
		want string
	}{
		"no cluster name":       {"", nil, `clusterName: "": the name of this cluster is required`},
		"reserved name":         {"clusterName: local\n", nil, "reserved"},
		"not a DNS label":       {"clusterName: West_1\n", nil, `clusterName: "West_1": a lowercase RFC 1123 label`},
		"long name":             {"clusterName: " + strings.Repeat("a", 64), nil, "must be no more than 63"},
		"unknown field":         {good + "peerscopes: mesh\n", nil, `unknown field "peerscopes"`},
		"wrong type":            {good + "podCIDRs: 10.0.0.0/8\n", nil, "podCIDRs"},
		"no range":              {good + "podCIDRs: [ten]\n", nil, `podCIDRs: "ten": an address range`},
		"host bits":             {good + "nodeCIDRs: [10.0.0.1/8]\n", nil, `nodeCIDRs: "10.0.0.1/8" has host bits: 10.0.0.0/8 is expected`},
		"mapped range":          {good + "podCIDRs: ['::ffff:10.0.0.0/104']\n", nil, "podCIDRs"},
		"label with prefix":     {good + "clusterLabels: {a/b: c}\n", nil, `clusterLabels: key "a/b"`},
		"label value":           {good + "clusterLabels: {a: 'b c'}\n", nil, `clusterLabels: value "b c" of a`},
		"scope":                 {good + "peerScope: all\n", nil, `peerScope: "all": one of local, mesh is expected`},
		"relative socket":       {good + "adminSocket: admin.sock\n", nil, "adminSocket"},
		"relative store":        {good + "storeDir: store\n", nil, "storeDir"},
		"no limit":              {good + "storeLimitMiB: -1\n", nil, "storeLimitMiB: -1: at least 1"},
		"metrics without port":  {good + "metricsAddress: localhost\n", nil, "metricsAddress"},
		"candidate":             {good, []string{"--federation-candidate=maybe"}, "federationCandidate"},
		"unknown flag":          {good, []string{"--peer"}, "unknown flag: --peer"},
		"argument":              {good, []string{"run"}, `unexpected argument "run"`},
		"no node":               {good, []string{"--node-name="}, "nodeName: empty"},
		"dataplane":             {good + "dataplane: magic\n", nil, `dataplane: "magic": one of iptables, none is expected`},
		"backend":               {good, []string{"--iptables-backend=nftables"}, "one of auto, legacy, nft"},
		"own node":              {good, []string{"--own-node-egress=deny"}, "ownNodeEgress"},
		"protected":             {good, []string{"--protected=maybe"}, "protected"},
		"CNI":                   {good + "cni: maybe\n", nil, "cni"},
		"relative CNI folder":   {good + "cniConfDir: net.d\n", nil, `cniConfDir: "net.d": an absolute path`},
		"no CNI programs":       {good, []string{"--cni-bin-dir="}, "cniBinDir"},
		"relative plugin":       {good, []string{"--cni-plugin=overland-cni"}, "cniPlugin"},
		"no CNI timeout":        {good + "cniTimeoutSeconds: 0\n", nil, "cniTimeoutSeconds: 0: a number from 1 to 100"},
		"long CNI timeout":      {good, []string{"--cni-timeout-seconds=101"}, "cniTimeoutSeconds: 101"},
		"fail-open namespace":   {good + "failOpenNamespaces: [a, B]\n", nil, `failOpenNamespaces: "B"`},
		"decimal mask":          {good, []string{"--connmark-mask=255"}, `connmarkMask: "255": a hexadecimal number`},
		"mask too long":         {good, []string{"--connmark-mask=0x1ff000000"}, "hexadecimal number of 32 bits"},
		"mask with a hole":      {good, []string{"--connmark-mask=0xff00f000"}, "at least 8 bits side by side"},
		"mask too small":        {good, []string{"--connmark-mask=0xfe00"}, "at least 8 bits side by side"},
		"exception of no range": {good + "sourceExceptions: {vpn: [all]}\n", nil, `sourceExceptions: namespace vpn: "all"`},
		"exception's namespace": {good, []string{"--source-exceptions=Vpn=10.0.0.0/8"}, `sourceExceptions: namespace "Vpn"`},
		"exception without =":   {good, []string{"--source-exceptions=10.0.0.0/8"}, "NAMESPACE=RANGE is expected"},
		"negative limit":        {good, []string{"--max-members-per-namespace=-1"}, "maxMembersPerNamespace: -1"},
		"relative state":        {good, []string{"--state-dir=state"}, "stateDir"},
		"no boot id":            {good, []string{"--boot-id-file="}, "bootIDFile"},
		"two problems together": {"peerScope: x\n", nil, "peerScope"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"--config", write(t, tt.file)}, tt.args...)
			_, err := load(args, environment(map[string]string{"NODE_NAME": "node-1"}))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAMissingFileIsNamed(t *testing.T) {
	_, err := load([]string{"--config", "/does/not/exist"}, environment(nil))
	if err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("got %v", err)
	}
}

func TestSourceExceptionsAddUp(t *testing.T) {
	file := write(t, "clusterName: west\nsourceExceptions: {vpn: [10.8.0.0/16]}\n")
	c, err := load([]string{
		"--config", file, "--source-exceptions=vpn=10.9.0.0/16,gw=fd00::/64", "--source-exceptions", "gw=10.10.0.0/16,vpn=10.8.0.0/16",
	}, environment(map[string]string{"NODE_NAME": "node-1"}))
	if err != nil {
		t.Fatal(err)
	}
	got := c.exceptions()
	if len(got) != 2 || len(got["vpn"]) != 2 || len(got["gw"]) != 2 || got["vpn"][1].String() != "10.9.0.0/16" {
		t.Errorf("got %v", got)
	}
}

func TestMasksAreBitsSideBySide(t *testing.T) {
	for text, want := range map[string]uint32{"0xff000000": 0xff000000, "0xff": 0xff, "0xFFFF0": 0xffff0, "0xffffffff": 0xffffffff} {
		if got, err := parseMask(text); err != nil || got != want {
			t.Errorf("%s: %#x, %v", text, got, err)
		}
	}
}

func TestNamespacesThatFailOpenAreTheSystemsUnlessOthersAreGiven(t *testing.T) {
	for name, tt := range map[string]struct {
		file string
		args []string
		want []string
	}{
		"default":         {"", nil, []string{"kube-system", "overland-system"}},
		"other namespace": {"", []string{"--namespace=net"}, []string{"kube-system", "net"}},
		"the system's":    {"namespace: kube-system\n", nil, []string{"kube-system"}},
		"given":           {"failOpenNamespaces: [a, b]\n", nil, []string{"a", "b"}},
		"by flag":         {"failOpenNamespaces: [a, b]\n", []string{"--fail-open-namespaces=c"}, []string{"c"}},
		"none":            {"failOpenNamespaces: []\n", nil, []string{}},
		"none by flag":    {"", []string{"--fail-open-namespaces="}, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"--config", write(t, "clusterName: west\n"+tt.file)}, tt.args...)
			c, err := load(args, environment(map[string]string{"NODE_NAME": "node-1"}))
			if err != nil {
				t.Fatal(err)
			}
			if got := c.failOpen(); got == nil || !slices.Equal(got, tt.want) {
				t.Errorf("got %#v, want %#v", got, tt.want)
			}
		})
	}
}

func TestThePluginIsKeptAwayWhereNothingIsEnforced(t *testing.T) {
	for args, off := range map[string]bool{"--cni": false, "--cni=false": true, "--dataplane=none": true, "--protected=false": false} {
		c, err := load([]string{"--cluster-name=west", args}, environment(map[string]string{"NODE_NAME": "node-1"}))
		if err != nil {
			t.Fatal(err)
		}
		i, err := newInstaller(c, silent())
		if err != nil || i.Status().Off != off {
			t.Errorf("%s: %+v, %v", args, i.Status(), err)
		}
	}
}

func TestATroubleOfTheInstallerIsAProblem(t *testing.T) {
	cfg := defaults(environment(nil))
	cfg.CNIConfDir = filepath.Join(t.TempDir(), "missing", "net.d")
	installer, err := newInstaller(cfg, newLog(cfg))
	if err != nil {
		t.Fatal(err)
	}
	dp := withCNI{observer{}, installer}
	before := len(dp.Status().Problems)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- installer.Run(ctx) }()
	for deadline := time.Now().Add(20 * time.Second); len(dp.Status().Problems) == before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the folder is missing, and no Problem says so")
		}
	}
	if p := dp.Status().Problems[before]; p.Kind != model.ProblemCNI || p.Message == "" {
		t.Errorf("Problem %+v", p)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
