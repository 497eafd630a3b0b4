package deps

// importTable is the one place that says who may import what. A new package
// gets a row, in the order of the layout; see Rule for what the fields mean.
func importTable() Table {
	const (
		cni        = "github.com/containernetworking/cni"
		grpc       = "google.golang.org/grpc"
		cobra      = "github.com/spf13/cobra"
		logrus     = "github.com/sirupsen/logrus"
		netlink    = "github.com/vishvananda/netlink"
		netns      = "github.com/vishvananda/netns"
		netlinkRaw = "github.com/mdlayher/netlink"
		syncGroup  = "golang.org/x/sync"
		sys        = "golang.org/x/sys"
		yaml       = "sigs.k8s.io/yaml"

		api       = "k8s.io/api"
		machinery = "k8s.io/apimachinery"
		client    = "k8s.io/client-go"
		streaming = "k8s.io/cri-streaming"
		criClient = "k8s.io/cri-client"

		pflag      = "github.com/spf13/pflag"
		klog       = "k8s.io/klog/v2"
		cbor       = "github.com/fxamacker/cbor/v2"
		prometheus = "github.com/prometheus"
		cliRuntime = "k8s.io/cli-runtime"
		protobuf   = "google.golang.org/protobuf"
	)
	return Table{
		"cmd/overland-agent": {
			Repo:    []string{"pkg/..."},
			Modules: []string{cobra, pflag, logrus, api, machinery, client, syncGroup, sys, yaml, klog},
		},
		"cmd/overland": {
			Repo:    []string{"pkg/..."},
			Modules: []string{cobra, pflag, api, machinery, client, cliRuntime, "k8s.io/streaming", syncGroup, yaml},
		},

		"cmd/overland-cni": {Repo: []string{"pkg/cni"}},

		"pkg/api/v1alpha1": {Modules: []string{machinery}},
		"pkg/api/client":   {Repo: []string{"pkg/api/v1alpha1"}, Modules: []string{machinery, client}},
		"pkg/model":        {Pure: true},
		"pkg/pset":         {Pure: true},
		"pkg/selector":     {Repo: []string{"pkg/model"}, Pure: true},
		"pkg/index":        {Repo: []string{"pkg/model", "pkg/pset", "pkg/selector"}, Pure: true},
		"pkg/desired":      {Repo: []string{"pkg/model", "pkg/pset"}, Pure: true},
		"pkg/policy":       {Repo: []string{"pkg/model", "pkg/pset", "pkg/selector", "pkg/index", "pkg/desired"}, Pure: true},
		"pkg/dataplane": {
			Repo:    []string{"pkg/model", "pkg/pset", "pkg/desired", "pkg/dataplane/delta"},
			Modules: []string{logrus},
		},
		"pkg/dataplane/delta":         {Repo: []string{"pkg/model", "pkg/pset", "pkg/desired"}, Pure: true},
		"pkg/dataplane/nfnl":          {Repo: []string{"pkg/dataplane/nfnl/nfnltest"}, Modules: []string{netlinkRaw, sys}},
		"pkg/dataplane/nfnl/nfnltest": {Modules: []string{sys}},
		"pkg/dataplane/ipset":         {Repo: []string{"pkg/model", "pkg/desired", "pkg/dataplane/nfnl/..."}, Modules: []string{sys}},
		"pkg/dataplane/conntrack":     {Repo: []string{"pkg/dataplane/nfnl/..."}, Modules: []string{sys}},
		"pkg/dataplane/iptables": {
			Repo: []string{
				"pkg/model", "pkg/pset", "pkg/desired", "pkg/dataplane", "pkg/dataplane/delta",
				"pkg/dataplane/ipset", "pkg/dataplane/conntrack", "pkg/dataplane/nfnl/nfnltest",
			},
			Modules:   []string{logrus, sys},
			PureFiles: []string{"compile", "diff", "trace"},
		},
		"pkg/dataplane/dataplanetest": {
			Repo: []string{"pkg/model", "pkg/pset", "pkg/desired", "pkg/dataplane", "pkg/dataplane/iptables"},
		},
		"pkg/node": {Repo: []string{"pkg/model"}, Modules: []string{logrus, netlink, sys}},
		"pkg/source": {
			Repo:    []string{"pkg/model", "pkg/api/v1alpha1", "pkg/api/client"},
			Modules: []string{logrus, api, machinery, client, klog, protobuf, syncGroup},
		},
		"pkg/store": {Repo: []string{"pkg/model"}, Modules: []string{logrus, cbor, sys}},
		"pkg/agent": {
			Repo:      []string{"pkg/model", "pkg/pset", "pkg/selector", "pkg/index", "pkg/policy", "pkg/desired", "pkg/store"},
			Modules:   []string{logrus},
			PureFiles: []string{"core"},
		},
		"pkg/attach": {
			Repo:    []string{"pkg/model", "pkg/agent", "pkg/dataplane", "pkg/policy", "pkg/desired"},
			Modules: []string{logrus},
		},
		"pkg/federation/plan": {
			Repo:    []string{"pkg/model", "pkg/selector", "pkg/index"},
			Modules: []string{api, machinery},
			Pure:    true,
		},
		"pkg/federation": {
			Repo: []string{
				"pkg/model", "pkg/index", "pkg/federation/plan", "pkg/agent", "pkg/api/v1alpha1", "pkg/api/client", "pkg/admin/api",
			},
			Modules: []string{logrus, api, machinery, client, syncGroup},
		},
		"pkg/admin": {
			Repo: []string{
				"pkg/model", "pkg/pset", "pkg/selector", "pkg/index", "pkg/policy", "pkg/desired", "pkg/dataplane",
				"pkg/agent", "pkg/attach", "pkg/federation", "pkg/admin/api",
			},
			Modules: []string{logrus, prometheus, sys, machinery},
		},
		"pkg/admin/api":    {},
		"pkg/admin/client": {Repo: []string{"pkg/admin/api"}},
		// The plugin's program has to stay small: it may not grow by what the agent needs.
		"pkg/cni": {Repo: []string{"pkg/admin/api", "pkg/admin/client"}, Modules: []string{cni, sys}},
		"pkg/cni/conflist": {
			Repo:      []string{"pkg/cni"},
			Modules:   []string{cni, logrus, sys, "github.com/fsnotify/fsnotify"},
			PureFiles: []string{"derive"},
		},
		"pkg/connect": {
			Repo:    []string{"pkg/model", "pkg/api/v1alpha1", "pkg/api/client", "pkg/source"},
			Modules: []string{api, machinery, client, "k8s.io/streaming", syncGroup, yaml},
		},

		"test/deps":   {},
		"test/worlds": {Repo: []string{"pkg/model", "pkg/source"}, Modules: []string{api, machinery, yaml}},

		"test/lab": {
			Repo:    []string{"test/lab/..."},
			Modules: []string{cobra, logrus, sys, cni, client},
		},
		"test/lab/ns":        {Modules: []string{sys}},
		"test/lab/rootfs":    {Modules: []string{sys}},
		"test/lab/rootcheck": {Modules: []string{sys}},
		"test/lab/state":     {Modules: []string{sys}},
		"test/lab/topology":  {Pure: true},
		"test/lab/fabric": {
			Repo:    []string{"test/lab/topology", "test/lab/ns"},
			Modules: []string{logrus, netlink, netns, syncGroup, sys},
		},
		"test/lab/azurecni": {Modules: []string{cni, logrus, netlink, netns, sys}},
		"test/lab/netprobe": {Modules: []string{cobra, logrus, syncGroup, sys}},
		"test/lab/control": {
			Repo:    []string{"test/lab/topology"},
			Modules: []string{logrus, api, machinery, client, syncGroup, sys, yaml},
		},
		"test/lab/kubeclient": {
			Repo:    []string{"test/lab/ns"},
			Modules: []string{api, machinery, client},
		},
		"test/lab/kubebin":   {Modules: []string{sys}},
		"test/lab/preflight": {Repo: []string{"test/lab/ns"}, Modules: []string{sys}},
		"test/lab/runtime": {
			Repo:    []string{"test/lab/ns", "test/lab/rootfs"},
			Modules: []string{cni, logrus, syncGroup, sys},
		},
		"test/lab/kubelet": {
			Repo: []string{"test/lab/kubelet/...", "test/lab/runtime", "test/lab/ns"},
			Modules: []string{
				cobra, logrus, "github.com/coreos/go-iptables", api, machinery, client, streaming,
				criClient, "k8s.io/cri-api", "k8s.io/utils", syncGroup, sys, yaml,
			},
		},
		"test/lab/kubelet/podplan": {
			Repo:    []string{"test/lab/kubelet/podspec", "test/lab/kubelet/probe", "test/lab/runtime"},
			Modules: []string{api, machinery},
		},
		"test/lab/kubelet/podspec": {
			Repo:    []string{"test/lab/runtime"},
			Modules: []string{api, machinery},
		},
		"test/lab/kubelet/podstatus": {
			Repo: []string{
				"test/lab/kubelet/podplan", "test/lab/kubelet/podspec", "test/lab/kubelet/probe",
				"test/lab/runtime",
			},
			Modules: []string{api, machinery},
		},
		"test/lab/kubelet/probe": {Modules: []string{grpc, logrus, api, machinery, sys}},
		"test/lab/kubelet/volume": {
			Repo:    []string{"test/lab/kubelet/podspec", "test/lab/runtime"},
			Modules: []string{logrus, api, machinery, sys},
		},
		"test/lab/daemon": {
			Repo: []string{
				"test/lab/topology", "test/lab/fabric", "test/lab/control", "test/lab/kubeclient", "test/lab/ns",
				"test/lab/rootfs", "test/lab/state", "test/lab/azurecni", "test/lab/kubelet", "test/lab/runtime",
			},
			Modules: []string{logrus, api, machinery, client, syncGroup, sys, yaml},
		},
		"test/lab/labtest": {
			Repo: []string{
				"test/lab/topology", "test/lab/ns", "test/lab/netprobe", "test/lab/daemon", "test/lab/kubeclient",
				"test/lab/state",
			},
			Modules: []string{cni, logrus, api, machinery, client, "k8s.io/streaming", "k8s.io/utils", syncGroup, sys, yaml},
		},
		// A module of its own: only the lab may run it, and nothing imports it.
		"test/lab/kube": {Modules: []string{
			cobra, api, machinery, client, "k8s.io/component-base", "k8s.io/kubectl", "k8s.io/kubernetes",
			"github.com/coredns/coredns", "go.etcd.io/etcd/server/v3",
		}},

		"test/e2e":           {},
		"test/e2e/api":       {},
		"test/e2e/cni":       {},
		"test/e2e/lifecycle": {},
		"test/e2e/identity":  {},
		"test/e2e/policy":    {},
		"test/e2e/services":  {},
		"test/bench":         {},
		"test/equivalence":   {},
	}
}
