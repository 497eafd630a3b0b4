package kubelet

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/overland-net/overland/test/lab/runtime"
)

// Version is what the node says its kubelet is: the one that this one acts as.
const Version = "v1.37.1"

// Port is where the kubelet serves the API server, on all addresses.
const Port = 10250

// Config is the kubelet's configuration file, in YAML or JSON.
type Config struct {
	NodeName   string       `json:"nodeName"`
	Addresses  []netip.Addr `json:"addresses"`  // the node's own, the primary first
	Kubeconfig string       `json:"kubeconfig"` // client certificate: CN system:node:NAME, O system:nodes

	ServingCert string `json:"servingCert"` // PEM files
	ServingKey  string `json:"servingKey"`
	ClientCA    string `json:"clientCA"` // who may call

	Runtime       runtime.Config `json:"runtime"`
	ClusterDNS    []netip.Addr   `json:"clusterDNS"`
	ClusterDomain string         `json:"clusterDomain"` // default cluster.local
	PodsDir       string         `json:"podsDir"`       // default /var/lib/kubelet/pods
	BootIDFile    string         `json:"bootIDFile"`    // default the kernel's

	Labels  map[string]string `json:"labels"`
	Taints  []v1.Taint        `json:"taints"`  // set when the node is first registered
	MaxPods int64             `json:"maxPods"` // default 110

	StatusInterval  metav1.Duration `json:"statusInterval"`  // default 10s
	LeaseInterval   metav1.Duration `json:"leaseInterval"`   // default 10s; the lease lasts four times as long
	RefreshInterval metav1.Duration `json:"refreshInterval"` // of mirrored volumes, default 10s
	CrashBackoff    metav1.Duration `json:"crashBackoff"`    // first wait before a restart, default 10s
	MaxCrashBackoff metav1.Duration `json:"maxCrashBackoff"` // default 5m

	// NoFirewall leaves the node's packet filter alone.
	NoFirewall bool `json:"noFirewall"`
}

// Load reads a configuration file and fills in the defaults.
func Load(path string) (Config, error) {
	var c Config
	text, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("read the configuration: %w", err)
	}
	if err := yaml.UnmarshalStrict(text, &c); err != nil {
		return c, fmt.Errorf("read the configuration %s: %w", path, err)
	}
	c.defaults()
	if c.NodeName == "" || len(c.Addresses) == 0 || c.Kubeconfig == "" {
		return c, errors.New("the configuration must have nodeName, addresses and kubeconfig")
	}
	return c, nil
}

func (c *Config) defaults() {
	text := func(at *string, value string) {
		if *at == "" {
			*at = value
		}
	}
	span := func(at *metav1.Duration, value time.Duration) {
		if at.Duration == 0 {
			at.Duration = value
		}
	}
	text(&c.ClusterDomain, "cluster.local")
	text(&c.PodsDir, "/var/lib/kubelet/pods")
	text(&c.BootIDFile, "/proc/sys/kernel/random/boot_id")
	if c.MaxPods == 0 {
		c.MaxPods = 110
	}
	span(&c.StatusInterval, 10*time.Second)
	span(&c.LeaseInterval, 10*time.Second)
	span(&c.RefreshInterval, 10*time.Second)
	span(&c.CrashBackoff, 10*time.Second)
	span(&c.MaxCrashBackoff, 5*time.Minute)
}

// allocatable is what the node offers: more than it has, because the lab's
// pods are small and the scheduler must not be the one that says no.
func (c *Config) allocatable() v1.ResourceList {
	return v1.ResourceList{
		v1.ResourceCPU:              resource.MustParse("16"),
		v1.ResourceMemory:           resource.MustParse("64Gi"),
		v1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
		v1.ResourcePods:             *resource.NewQuantity(c.MaxPods, resource.DecimalSI),
	}
}
