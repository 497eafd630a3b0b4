package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
