package main

import (
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
)

// The dataplanes.
const (
	dataplaneIptables = "iptables"
	dataplaneNone     = "none"
)

// minMark is how many bits of connection marks are needed at least: with fewer,
// generations would come round too soon.
const minMark = 8

// DataplaneConfig is the part of the configuration that is about enforcement.
type DataplaneConfig struct {
	// Dataplane is what enforces policies: iptables, or none.
	Dataplane string `json:"dataplane,omitempty"`
	// IptablesBackend is auto, legacy or nft.
	IptablesBackend string `json:"iptablesBackend,omitempty"`
	// ConnmarkMask are the bits of connection marks that are Overland's, in
	// hexadecimal.
	ConnmarkMask string `json:"connmarkMask,omitempty"`
	// OwnNodeEgress is whether egress rules apply to what a pod sends to its own
	// node: allow (they do not) or policy.
	OwnNodeEgress string `json:"ownNodeEgress,omitempty"`
	// Protected is whether packets of pod interfaces of which nothing is known are
	// dropped.
	Protected bool `json:"protected"`
	// SourceExceptions are ranges that pods may send from beside their own
	// addresses, by namespace.
	SourceExceptions map[string][]string `json:"sourceExceptions,omitempty"`
	// The limits of what the policies of one namespace cost; 0: the default.
	MaxSelectorsPerNamespace int `json:"maxSelectorsPerNamespace,omitempty"`
	MaxMembersPerNamespace   int `json:"maxMembersPerNamespace,omitempty"`
	MaxRulesPerNamespace     int `json:"maxRulesPerNamespace,omitempty"`

	StateDir   string `json:"stateDir,omitempty"`
	BootIDFile string `json:"bootIDFile,omitempty"`
}

func dataplaneDefaults() DataplaneConfig {
	return DataplaneConfig{
		Dataplane: dataplaneIptables, IptablesBackend: "auto", ConnmarkMask: "0xff000000",
		OwnNodeEgress: "allow", Protected: true,
		StateDir: "/var/lib/overland", BootIDFile: "/proc/sys/kernel/random/boot_id",
	}
}

func (c *DataplaneConfig) bind(flags *pflag.FlagSet) {
	flags.StringVar(&c.Dataplane, "dataplane", c.Dataplane, "what enforces NetworkPolicies on this node: iptables, or none (they are watched only)")
	flags.StringVar(&c.IptablesBackend, "iptables-backend", c.IptablesBackend, "auto (what the kubelet and kube-proxy use), legacy or nft")
	flags.StringVar(&c.ConnmarkMask, "connmark-mask", c.ConnmarkMask, "bits of connection marks that are Overland's alone, hexadecimal, at least 8 side by side")
	flags.StringVar(&c.OwnNodeEgress, "own-node-egress", c.OwnNodeEgress, "what a pod sends to its own node: allow, or by policy")
	flags.BoolVar(&c.Protected, "protected", c.Protected, "drop packets of pod interfaces of which nothing is known")
	flags.Var((*exceptionsFlag)(&c.SourceExceptions), "source-exceptions", "ranges that pods may send from beside their own addresses, NAMESPACE=RANGE,…")
	flags.IntVar(&c.MaxSelectorsPerNamespace, "max-selectors-per-namespace", c.MaxSelectorsPerNamespace, "most distinct peer selectors of the policies of a namespace; 0: 1,000")
	flags.IntVar(&c.MaxMembersPerNamespace, "max-members-per-namespace", c.MaxMembersPerNamespace, "most members of these together; 0: 500,000")
	flags.IntVar(&c.MaxRulesPerNamespace, "max-rules-per-namespace", c.MaxRulesPerNamespace, "most rules of the policies of a namespace; 0: 50,000")
	flags.StringVar(&c.StateDir, "state-dir", c.StateDir, "folder of node.json, which tells a restart from a reboot")
	flags.StringVar(&c.BootIDFile, "boot-id-file", c.BootIDFile, "file with the id of this boot of the node")
}

// exceptionsFlag reads NAMESPACE=RANGE,…; several ranges of a namespace are
// several pairs. The first flag replaces what the file says, and more add to it.
type exceptionsFlag map[string][]string

// String is what is set, in the form that Set reads.
func (f *exceptionsFlag) String() string {
	var pairs []string
	for _, namespace := range slices.Sorted(maps.Keys(*f)) {
		for _, text := range (*f)[namespace] {
			pairs = append(pairs, namespace+"="+text)
		}
	}
	return strings.Join(pairs, ",")
}

// Set adds pairs.
func (f *exceptionsFlag) Set(text string) error {
	all := map[string][]string{}
	for namespace, ranges := range *f {
		all[namespace] = slices.Clone(ranges)
	}
	for pair := range strings.SplitSeq(text, ",") {
		namespace, addresses, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("%q: NAMESPACE=RANGE is expected", pair)
		}
		if !slices.Contains(all[namespace], addresses) {
			all[namespace] = append(all[namespace], addresses)
		}
	}
	*f = all
	return nil
}

// Type is what the flag's help calls its value.
func (f *exceptionsFlag) Type() string { return "exceptions" }

func (c *DataplaneConfig) validate(bad func(field, format string, args ...any)) {
	if _, err := parseMask(c.ConnmarkMask); err != nil {
		bad("connmarkMask", "%v", err)
	}
	for _, namespace := range slices.Sorted(maps.Keys(c.SourceExceptions)) {
		if why := utilvalidation.IsDNS1123Label(namespace); len(why) > 0 {
			bad("sourceExceptions", "namespace %q: %s", namespace, why[0])
		}
		if _, err := prefixes(c.SourceExceptions[namespace]); err != nil {
			bad("sourceExceptions", "namespace %s: %v", namespace, err)
		}
	}
	for field, n := range map[string]int{
		"maxSelectorsPerNamespace": c.MaxSelectorsPerNamespace, "maxMembersPerNamespace": c.MaxMembersPerNamespace,
		"maxRulesPerNamespace": c.MaxRulesPerNamespace,
	} {
		if n < 0 {
			bad(field, "%d: a number from 0 is expected", n)
		}
	}
	for field, path := range map[string]string{"stateDir": c.StateDir, "bootIDFile": c.BootIDFile} {
		if !filepath.IsAbs(path) {
			bad(field, "%q: an absolute path is expected", path)
		}
	}
}

// parseMask reads a mask of connection marks.
func parseMask(text string) (uint32, error) {
	digits, ok := strings.CutPrefix(text, "0x")
	mask, err := strconv.ParseUint(digits, 16, 32)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q: a hexadecimal number of 32 bits is expected, such as 0xff000000", text)
	}
	m := uint32(mask)
	if n := bits.OnesCount32(m); n < minMark || bits.Len32(m)-bits.TrailingZeros32(m) != n {
		return 0, fmt.Errorf("%q: at least %d bits side by side are expected, such as 0xff000000", text, minMark)
	}
	return m, nil
}

// exceptions are the source exceptions by namespace. Validate has accepted them.
func (c *DataplaneConfig) exceptions() map[string][]netip.Prefix {
	all := map[string][]netip.Prefix{}
	for namespace, texts := range c.SourceExceptions {
		all[namespace], _ = prefixes(texts)
	}
	return all
}
