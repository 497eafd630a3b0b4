package source

import (
	"net/netip"
	"strings"
)

// The checks of what a cluster says are those of API servers where they matter
// here: lengths, because of memory, and characters, because people read these
// texts on terminals. What an API server would not have stored is refused.
const (
	maxNameLength       = 253
	maxLabelNameLength  = 63
	maxPortNameLength   = 15
	maxLabelValueLength = 63
	maxLabelKeyLength   = maxNameLength + 1 + maxLabelNameLength
)

func lowerAlphanumeric(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

func alphanumeric(c byte) bool { return lowerAlphanumeric(c) || 'A' <= c && c <= 'Z' }

// dnsLabel is for the names of namespaces and clusters.
func dnsLabel(s string) bool { return len(s) <= maxLabelNameLength && dnsWord(s) }

func dnsWord(s string) bool {
	if s == "" || !lowerAlphanumeric(s[0]) || !lowerAlphanumeric(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !lowerAlphanumeric(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

// dnsSubdomain is for the names of pods, nodes and service accounts.
func dnsSubdomain(s string) bool {
	if len(s) > maxNameLength {
		return false
	}
	for word := range strings.SplitSeq(s, ".") {
		if !dnsWord(word) {
			return false
		}
	}
	return true
}

// portName is an IANA service name.
func portName(s string) bool { return len(s) <= maxPortNameLength && dnsWord(s) }

func labelWord(s string) bool {
	if s == "" || len(s) > maxLabelNameLength || !alphanumeric(s[0]) || !alphanumeric(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func labelKey(s string) bool {
	if domain, name, ok := strings.Cut(s, "/"); ok {
		return len(s) <= maxLabelKeyLength && dnsSubdomain(domain) && labelWord(name)
	}
	return labelWord(s)
}

func labelValue(s string) bool { return s == "" || len(s) <= maxLabelValueLength && labelWord(s) }

func labelsWellFormed(labels map[string]string) bool {
	for k, v := range labels {
		if !labelKey(k) || !labelValue(v) {
			return false
		}
	}
	return true
}

// parseAddress reads an address of a pod or node: without zone, and IPv4 in its
// own form.
func parseAddress(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

// printable bounds a text of a remote and takes from it what a terminal would
// obey.
func printable(s string, length int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0xfffd || r >= 0x2028 && r <= 0x202e {
			return ' '
		}
		return r
	}, s[:min(len(s), 4*length)])
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= length {
		return s
	}
	return strings.ToValidUTF8(s[:length], "") + "…"
}
