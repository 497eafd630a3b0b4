package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// Config is the agent's configuration: the file, and over it the flags, which
// have the same meaning. Fields that are not given have the default.
type Config struct {
	// ClusterName is the name of the local cluster: a DNS label. Required.
	ClusterName string `json:"clusterName"`
	// ClusterLabels are the local cluster's labels, for cluster.overland.dev/KEY.
	ClusterLabels map[string]string `json:"clusterLabels,omitempty"`
	// PodCIDRs and NodeCIDRs are the ranges of the local cluster's pods and
	// nodes, which no remote may claim.
	PodCIDRs  []string `json:"podCIDRs,omitempty"`
	NodeCIDRs []string `json:"nodeCIDRs,omitempty"`
	// PeerScope is what a policy peer without a cluster key means: local or mesh.
	PeerScope string `json:"peerScope,omitempty"`
	// PeerScopeOverride is who may widen that: policy, namespace or none.
	PeerScopeOverride string `json:"peerScopeOverride,omitempty"`
	// FederationCandidate is whether this node may lead: auto, always or never.
	FederationCandidate string `json:"federationCandidate,omitempty"`
	// FederationEndpoints is whether the leader writes Endpoints objects too.
	FederationEndpoints bool `json:"federationEndpoints"`

	DataplaneConfig `json:",inline"`
	CNIConfig       `json:",inline"`

	NodeName       string `json:"nodeName,omitempty"`
	Namespace      string `json:"namespace,omitempty"`
	Kubeconfig     string `json:"kubeconfig,omitempty"`
	AdminSocket    string `json:"adminSocket,omitempty"`
	MetricsAddress string `json:"metricsAddress,omitempty"`
	StoreDir       string `json:"storeDir,omitempty"`
	StoreLimitMiB  int64  `json:"storeLimitMiB,omitempty"`
	LogLevel       string `json:"logLevel,omitempty"`
	LogFormat      string `json:"logFormat,omitempty"`
}

// defaults is the configuration without file and flags. The environment
// variables are those that the manifest sets from the pod's own fields.
func defaults(env func(string) string) Config {
	c := Config{
		PeerScope: "local", PeerScopeOverride: "policy", FederationCandidate: "auto", FederationEndpoints: true,
		NodeName: env("NODE_NAME"), Namespace: env("POD_NAMESPACE"),
		AdminSocket: "/run/overland/admin.sock", MetricsAddress: ":9470",
		StoreDir: "/var/lib/overland/store", StoreLimitMiB: 256,
		LogLevel: "info", LogFormat: "text",
		DataplaneConfig: dataplaneDefaults(), CNIConfig: cniDefaults(),
	}
	if c.Namespace == "" {
		c.Namespace = "overland-system"
	}
	return c
}

// bind makes a flag of every field. What a flag is not given for keeps its
// value; the defaults shown are those of c.
func (c *Config) bind(flags *pflag.FlagSet) {
	flags.StringVar(&c.ClusterName, "cluster-name", c.ClusterName, "name of the local cluster, a DNS label (required)")
	flags.StringToStringVar(&c.ClusterLabels, "cluster-labels", c.ClusterLabels, "labels of the local cluster, KEY=VALUE,…, for selectors on cluster.overland.dev/KEY")
	flags.StringSliceVar(&c.PodCIDRs, "pod-cidrs", c.PodCIDRs, "address ranges of the local cluster's pods, which no other cluster may claim")
	flags.StringSliceVar(&c.NodeCIDRs, "node-cidrs", c.NodeCIDRs, "address ranges of the local cluster's nodes, which no other cluster may claim")
	flags.StringVar(&c.PeerScope, "peer-scope", c.PeerScope, "what a policy peer that names no cluster means: local or mesh")
	flags.StringVar(&c.PeerScopeOverride, "peer-scope-override", c.PeerScopeOverride, "who may widen the peer scope by annotation: policy, namespace or none")
	flags.StringVar(&c.FederationCandidate, "federation-candidate", c.FederationCandidate, "whether this node may lead: auto, always or never")
	flags.BoolVar(&c.FederationEndpoints, "federation-endpoints", c.FederationEndpoints, "whether federated Services have Endpoints objects too, for readers of the old API")
	c.DataplaneConfig.bind(flags)
	c.CNIConfig.bind(flags)
	flags.StringVar(&c.NodeName, "node-name", c.NodeName, "name of this node (default $NODE_NAME)")
	flags.StringVar(&c.Namespace, "namespace", c.Namespace, "the agent's namespace (default $POD_NAMESPACE)")
	flags.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "kubeconfig of the local cluster (default: the pod's service account)")
	flags.StringVar(&c.AdminSocket, "admin-socket", c.AdminSocket, "path of the admin socket")
	flags.StringVar(&c.MetricsAddress, "metrics-address", c.MetricsAddress, "address of metrics and health, HOST:PORT; empty: none")
	flags.StringVar(&c.StoreDir, "store-dir", c.StoreDir, "folder for what this node knows, kept over restarts; empty: none")
	flags.Int64Var(&c.StoreLimitMiB, "store-limit-mib", c.StoreLimitMiB, "most that the store of one cluster may take, in MiB")
	flags.StringVar(&c.LogLevel, "log-level", c.LogLevel, "error, warning, info or debug")
	flags.StringVar(&c.LogFormat, "log-format", c.LogFormat, "text or json")
}

// load is the configuration of these arguments: flags over the file over the
// defaults.
func load(args []string, env func(string) string) (Config, error) {
	c := defaults(env)
	file, err := configFile(args, env, newFlags)
	if err != nil {
		return c, err
	}
	if file != "" {
		if err := c.read(file); err != nil {
			return c, err
		}
	}
	flags := newFlags(&c)
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if flags.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q: the agent takes flags only", flags.Arg(0))
	}
	return c, c.Validate()
}

func newFlags(c *Config) *pflag.FlagSet {
	flags := pflag.NewFlagSet("overland-agent", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.String("config", "", "file with the configuration, YAML; flags win over it")
	flags.Bool("version", false, "print the version and end")
	c.bind(flags)
	return flags
}

// configFile is what --config says: it is needed before the other flags, whose
// defaults it gives.
func configFile(args []string, env func(string) string, flagsOf func(*Config) *pflag.FlagSet) (string, error) {
	c := defaults(env)
	flags := flagsOf(&c)
	if err := flags.Parse(args); err != nil {
		return "", err
	}
	return flags.GetString("config")
}

// read takes a file's fields over what is there. A field that does not exist
// is an error: a misspelt one would silently have no effect.
func (c *Config) read(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	if err := yaml.UnmarshalStrict(text, c); err != nil {
		return fmt.Errorf("configuration %s: %w", file, err)
	}
	return nil
}

// Validate reports all that is wrong, each with its field and what was expected.
func (c *Config) Validate() error {
	var problems []error
	bad := func(field, format string, args ...any) {
		problems = append(problems, fmt.Errorf("configuration %s: %s", field, fmt.Sprintf(format, args...)))
	}
	if why := clusterName(c.ClusterName); why != "" {
		bad("clusterName", "%q: %s", c.ClusterName, why)
	}
	for k, v := range c.ClusterLabels {
		if strings.Contains(k, "/") || len(utilvalidation.IsQualifiedName(k)) > 0 {
			bad("clusterLabels", "key %q: a label name without prefix is expected", k)
		}
		if len(utilvalidation.IsValidLabelValue(v)) > 0 {
			bad("clusterLabels", "value %q of %s: a label value is expected", v, k)
		}
	}
	for field, texts := range map[string][]string{"podCIDRs": c.PodCIDRs, "nodeCIDRs": c.NodeCIDRs} {
		if _, err := prefixes(texts); err != nil {
			bad(field, "%v", err)
		}
	}
	for _, choice := range []struct {
		field, value string
		of           []string
	}{
		{"peerScope", c.PeerScope, []string{"local", "mesh"}},
		{"peerScopeOverride", c.PeerScopeOverride, []string{"policy", "namespace", "none"}},
		{"federationCandidate", c.FederationCandidate, []string{"auto", "always", "never"}},
		{"dataplane", c.Dataplane, []string{dataplaneIptables, dataplaneNone}},
		{"iptablesBackend", c.IptablesBackend, []string{"auto", "legacy", "nft"}},
		{"ownNodeEgress", c.OwnNodeEgress, []string{"allow", "policy"}},
		{"logLevel", c.LogLevel, []string{"error", "warning", "info", "debug"}},
		{"logFormat", c.LogFormat, []string{"text", "json"}},
	} {
		if !slices.Contains(choice.of, choice.value) {
			bad(choice.field, "%q: one of %s is expected", choice.value, strings.Join(choice.of, ", "))
		}
	}
	c.validatePlaces(bad)
	c.DataplaneConfig.validate(bad)
	c.CNIConfig.validate(bad)
	return errors.Join(problems...)
}

func (c *Config) validatePlaces(bad func(field, format string, args ...any)) {
	if c.NodeName == "" {
		bad("nodeName", "empty: the name of this node is expected (the manifest sets $NODE_NAME)")
	}
	if why := utilvalidation.IsDNS1123Label(c.Namespace); len(why) > 0 {
		bad("namespace", "%q: %s", c.Namespace, why[0])
	}
	if !filepath.IsAbs(c.AdminSocket) {
		bad("adminSocket", "%q: an absolute path is expected", c.AdminSocket)
	}
	if c.StoreDir != "" && !filepath.IsAbs(c.StoreDir) {
		bad("storeDir", "%q: an absolute path is expected", c.StoreDir)
	}
	if c.StoreLimitMiB < 1 {
		bad("storeLimitMiB", "%d: at least 1 is expected", c.StoreLimitMiB)
	}
	if c.MetricsAddress != "" {
		if _, _, err := net.SplitHostPort(c.MetricsAddress); err != nil {
			bad("metricsAddress", "%q: HOST:PORT is expected", c.MetricsAddress)
		}
	}
}

// clusterName says what is wrong with a cluster's name (semantics 1.1).
func clusterName(name string) string {
	switch {
	case name == "":
		return "the name of this cluster is required; linked clusters must know it by the same name"
	case name == "local", name == "any":
		return "this name is reserved"
	}
	if why := utilvalidation.IsDNS1123Label(name); len(why) > 0 {
		return why[0]
	}
	return ""
}

// prefixes reads address ranges; each in its canonical form, as a network.
func prefixes(texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%q: an address range such as 10.1.0.0/16 is expected", text)
		}
		if p != p.Masked() {
			return nil, fmt.Errorf("%q has host bits: %s is expected", text, p.Masked())
		}
		all = append(all, p)
	}
	return all, nil
}
