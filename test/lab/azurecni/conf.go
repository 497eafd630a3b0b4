package azurecni

import (
	"crypto/sha1" // the real plugin's naming rule, not a security measure
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
)

const (
	// PluginType is the plugin's name in a conflist and in the CNI bin folder.
	PluginType = "azure-vnet"
	// ConflistName is the file name that Azure uses in the CNI conf folder.
	ConflistName = "10-azure.conflist"

	ipamType          = "azure-vnet-ipam"
	modeTransparent   = "transparent"
	defaultMaster     = "eth0"
	defaultStateFile  = "/var/lib/azure-vnet/ipam.json"
	defaultBootIDFile = "/proc/sys/kernel/random/boot_id"
	conflistVersion   = "0.3.0"
	nodeLocalDNS      = "169.254.20.10"
)

// Range is the inclusive range of pod addresses of one family that a node may
// hand out. It is a value; the JSON form is what the conflist carries.
type Range struct {
	// Subnet is the VNet's prefix. Pods carry its length on their address, as
	// on Azure, and its first address is reported as the gateway. The zero
	// value means a host prefix and no gateway.
	Subnet netip.Prefix `json:"subnet,omitzero"`
	First  netip.Addr   `json:"first"`
	Last   netip.Addr   `json:"last"`
}

// Config is what a node's conflist says. The zero value of a field other than
// Ranges means the plugin's default.
type Config struct {
	// Ranges has one IPv4 range and at most one IPv6 range.
	Ranges []Range
	// Master is the node's interface whose MTU pods get; default eth0.
	Master string
	// StateFile holds the allocations; default /var/lib/azure-vnet/ipam.json.
	StateFile string
	// BootIDFile identifies the node's boot; default the kernel's own.
	BootIDFile string
}

// ipamConf is the `ipam` object of the plugin's configuration.
type ipamConf struct {
	Type       string  `json:"type"`
	Ranges     []Range `json:"ranges"`
	StateFile  string  `json:"stateFile,omitempty"`
	BootIDFile string  `json:"bootIDFile,omitempty"`
}

// netConf is the plugin's configuration as libcni passes it on stdin.
type netConf struct {
	CNIVersion        string   `json:"cniVersion,omitempty"`
	Name              string   `json:"name,omitempty"`
	Type              string   `json:"type"`
	Mode              string   `json:"mode"`
	Master            string   `json:"master,omitempty"`
	IPsToRouteViaHost []string `json:"ipsToRouteViaHost,omitempty"`
	IPAM              ipamConf `json:"ipam"`
}

// podArgs are the CNI_ARGS that name the pod.
type podArgs struct {
	types.CommonArgs
	//lint:ignore ST1003 the key's spelling in CNI_ARGS
	K8S_POD_NAMESPACE types.UnmarshallableString
	//lint:ignore ST1003 as above
	K8S_POD_NAME types.UnmarshallableString
}

// HostVethName gives the name of the host end of a pod's veth pair: "azv" and
// the first 11 hexadecimal digits of the SHA-1 of NAMESPACE.POD. A pod made
// again under the same name gets the same interface name.
func HostVethName(namespace, pod string) string {
	sum := sha1.Sum([]byte(namespace + "." + pod))
	return "azv" + hex.EncodeToString(sum[:])[:11]
}

// Conflist renders the node's 10-azure.conflist: azure-vnet, then portmap, as
// Azure writes it, with the node's ranges added under `ipam`. It does not
// check cfg: the plugin does when it is called.
func Conflist(cfg Config) []byte {
	type portmap struct {
		Type         string          `json:"type"`
		Capabilities map[string]bool `json:"capabilities"`
		SNAT         bool            `json:"snat"`
	}
	list := struct {
		CNIVersion string `json:"cniVersion"`
		Name       string `json:"name"`
		Plugins    [2]any `json:"plugins"`
	}{conflistVersion, "azure", [2]any{
		netConf{
			Type: PluginType, Mode: modeTransparent, Master: cfg.Master,
			// Without meaning in transparent mode; the real file has it, and
			// whoever rewrites the file must keep keys it does not know.
			IPsToRouteViaHost: []string{nodeLocalDNS},
			IPAM: ipamConf{
				Type: ipamType, Ranges: cfg.Ranges,
				StateFile: cfg.StateFile, BootIDFile: cfg.BootIDFile,
			},
		},
		portmap{Type: "portmap", Capabilities: map[string]bool{"portMappings": true}, SNAT: true},
	}}
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("azurecni: conflist of plain values does not marshal: %v", err))
	}
	return append(data, '\n')
}

// parseConf decodes and checks the configuration and fills in its defaults.
func parseConf(stdin []byte) (netConf, error) {
	var conf netConf
	if err := json.Unmarshal(stdin, &conf); err != nil {
		return netConf{}, types.NewError(types.ErrDecodingFailure, "decode azure-vnet configuration", err.Error())
	}
	if conf.Mode != modeTransparent {
		return netConf{}, invalidConf("mode is %q, the lab has only %q", conf.Mode, modeTransparent)
	}
	if conf.IPAM.Type != ipamType {
		return netConf{}, invalidConf("ipam.type is %q, want %q", conf.IPAM.Type, ipamType)
	}
	if err := checkRanges(conf.IPAM.Ranges); err != nil {
		return netConf{}, err
	}
	setDefault(&conf.Master, defaultMaster)
	setDefault(&conf.IPAM.StateFile, defaultStateFile)
	setDefault(&conf.IPAM.BootIDFile, defaultBootIDFile)
	return conf, nil
}

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

func invalidConf(format string, args ...any) error {
	return types.NewError(types.ErrInvalidNetworkConfig, "azure-vnet configuration: "+fmt.Sprintf(format, args...), "")
}

func checkRanges(ranges []Range) error {
	var v4, v6 int
	for i, r := range ranges {
		switch {
		case !r.First.IsValid() || !r.Last.IsValid():
			return invalidConf("ipam.ranges[%d] needs first and last", i)
		case r.First.Is4() != r.Last.Is4() || r.First.Is4In6() || r.First.Zone() != "" || r.Last.Zone() != "":
			return invalidConf("ipam.ranges[%d]: %s and %s are not plain addresses of one family", i, r.First, r.Last)
		case r.Last.Less(r.First):
			return invalidConf("ipam.ranges[%d]: last %s is before first %s", i, r.Last, r.First)
		case r.Subnet.IsValid() && (!r.Subnet.Contains(r.First) || !r.Subnet.Contains(r.Last)):
			return invalidConf("ipam.ranges[%d]: %s-%s is not within subnet %s", i, r.First, r.Last, r.Subnet)
		}
		if r.First.Is4() {
			v4++
		} else {
			v6++
		}
	}
	if v4 != 1 || v6 > 1 {
		return invalidConf("ipam.ranges has %d IPv4 and %d IPv6 ranges, want one IPv4 and at most one IPv6", v4, v6)
	}
	return nil
}

// prefix is the address with the length that the pod's interface carries.
func (r Range) prefix(addr netip.Addr) netip.Prefix {
	if r.Subnet.IsValid() {
		return netip.PrefixFrom(addr, r.Subnet.Bits())
	}
	return netip.PrefixFrom(addr, addr.BitLen())
}

// gateway is the subnet's first address, which Azure reserves for that; the
// zero value when the subnet is not given.
func (r Range) gateway() netip.Addr {
	if !r.Subnet.IsValid() {
		return netip.Addr{}
	}
	return r.Subnet.Masked().Addr().Next()
}

// contains says whether addr is one that the range may hand out.
func (r Range) contains(addr netip.Addr) bool {
	return addr.IsValid() && addr.BitLen() == r.First.BitLen() && !addr.Less(r.First) && !r.Last.Less(addr)
}

// hostVethOf names the pod's host interface from the call's CNI_ARGS.
func hostVethOf(args *skel.CmdArgs) (string, error) {
	var pod podArgs
	if err := types.LoadArgs(args.Args, &pod); err != nil {
		return "", types.NewError(types.ErrInvalidEnvironmentVariables, "parse CNI_ARGS", err.Error())
	}
	if pod.K8S_POD_NAMESPACE == "" || pod.K8S_POD_NAME == "" {
		return "", types.NewError(types.ErrInvalidEnvironmentVariables,
			"CNI_ARGS has no K8S_POD_NAMESPACE or no K8S_POD_NAME", args.Args)
	}
	return HostVethName(string(pod.K8S_POD_NAMESPACE), string(pod.K8S_POD_NAME)), nil
}
