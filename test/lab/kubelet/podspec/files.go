package podspec

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// maxHostname is the kernel's limit of a host name, less its final zero.
const maxHostname = 63

// Hostname is the pod's host name and, where its subdomain gives it one, its
// domain (without the host name).
func Hostname(pod *v1.Pod, clusterDomain string) (host, domain string) {
	if pod.Spec.HostnameOverride != nil {
		return *pod.Spec.HostnameOverride, ""
	}
	host = pod.Name
	if pod.Spec.Hostname != "" {
		host = pod.Spec.Hostname
	}
	if len(host) > maxHostname {
		host = strings.TrimRight(host[:maxHostname], "-.")
	}
	if pod.Spec.Subdomain != "" {
		domain = fmt.Sprintf("%s.%s.svc.%s", pod.Spec.Subdomain, pod.Namespace, clusterDomain)
	}
	return host, domain
}

// HostsFile is the text of a pod's /etc/hosts. node is the node's own file,
// which pods on the host network get with their aliases added.
func HostsFile(pod *v1.Pod, clusterDomain string, ips []netip.Addr, node string) string {
	var out strings.Builder
	if pod.Spec.HostNetwork {
		out.WriteString("# Kubernetes-managed hosts file (host network).\n")
		out.WriteString(node)
	} else {
		out.WriteString("# Kubernetes-managed hosts file.\n" +
			"127.0.0.1\tlocalhost\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::0\tip6-localnet\n" +
			"fe00::0\tip6-mcastprefix\n" +
			"fe00::1\tip6-allnodes\n" +
			"fe00::2\tip6-allrouters\n")
		host, domain := Hostname(pod, clusterDomain)
		names := host
		if domain != "" {
			names = host + "." + domain + "\t" + host
		}
		for _, ip := range ips {
			fmt.Fprintf(&out, "%s\t%s\n", ip, names)
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		out.WriteString("\n# Entries added by HostAliases.\n")
	}
	for _, alias := range pod.Spec.HostAliases {
		fmt.Fprintf(&out, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
	}
	return out.String()
}

// ResolvConf is the text of a pod's /etc/resolv.conf. node is the node's own
// file.
func ResolvConf(pod *v1.Pod, clusterDomain string, clusterDNS []netip.Addr, node string) string {
	conf := parseResolvConf(node)
	policy := pod.Spec.DNSPolicy
	if policy == v1.DNSClusterFirst && pod.Spec.HostNetwork {
		policy = v1.DNSDefault
	}
	switch {
	case policy == v1.DNSNone:
		conf = resolvConf{}
	case policy == v1.DNSDefault || len(clusterDNS) == 0:
	default:
		conf.servers = nil
		for _, ip := range clusterDNS {
			conf.servers = append(conf.servers, ip.String())
		}
		conf.searches = append([]string{
			pod.Namespace + ".svc." + clusterDomain, "svc." + clusterDomain, clusterDomain,
		}, conf.searches...)
		conf.options = []string{"ndots:5"}
	}
	if extra := pod.Spec.DNSConfig; extra != nil {
		conf.servers = append(conf.servers, extra.Nameservers...)
		conf.searches = append(conf.searches, extra.Searches...)
		conf.options = mergeOptions(conf.options, extra.Options)
	}
	return conf.String()
}

type resolvConf struct{ servers, searches, options []string }

func parseResolvConf(text string) resolvConf {
	var c resolvConf
	for line := range strings.SplitSeq(text, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			c.servers = append(c.servers, fields[1])
		case "search":
			c.searches = fields[1:] // the last line counts
		case "options":
			c.options = fields[1:]
		}
	}
	return c
}

// mergeOptions lets a later option replace one of the same name.
func mergeOptions(have []string, more []v1.PodDNSConfigOption) []string {
	out := slices.Clone(have)
	for _, option := range more {
		out = slices.DeleteFunc(out, func(o string) bool {
			name, _, _ := strings.Cut(o, ":")
			return name == option.Name
		})
		text := option.Name
		if option.Value != nil && *option.Value != "" {
			text += ":" + *option.Value
		}
		out = append(out, text)
	}
	return out
}

// String writes the file; the C library reads no more than three name servers.
func (c resolvConf) String() string {
	var out strings.Builder
	if searches := unique(c.searches); len(searches) > 0 {
		fmt.Fprintf(&out, "search %s\n", strings.Join(searches, " "))
	}
	servers := unique(c.servers)
	for _, server := range servers[:min(3, len(servers))] {
		fmt.Fprintf(&out, "nameserver %s\n", server)
	}
	if len(c.options) > 0 {
		fmt.Fprintf(&out, "options %s\n", strings.Join(c.options, " "))
	}
	return out.String()
}

func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
