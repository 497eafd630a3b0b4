package plan

import (
	"net/netip"
	"strings"

	"github.com/overland-net/overland/pkg/model"
)

// The rules of API servers for what is copied. They are written out since they
// are asked for each endpoint of a mesh, and the library's are regular expressions.

const (
	maxLabel     = 63
	maxSubdomain = 253
	maxUID       = 128
)

// publishable tells whether an address may be in an EndpointSlice. The text form
// of a netip.Addr is canonical, so what is copied always is.
func publishable(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && a.Zone() == "" && !a.IsUnspecified() && !a.IsLoopback() &&
		!a.IsLinkLocalUnicast() && !a.IsLinkLocalMulticast()
}

func lowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
func alnum(c byte) bool      { return lowerAlnum(c) || 'A' <= c && c <= 'Z' }

// dnsLabel is the rule of RFC 1123.
func dnsLabel(s string) bool {
	if s == "" || len(s) > maxLabel {
		return false
	}
	return hyphenated(s)
}

// hyphenated tells whether a text that is not empty is of lower-case letters,
// digits and, between them, hyphens.
func hyphenated(s string) bool {
	for i := range len(s) {
		if !lowerAlnum(s[i]) && (s[i] != '-' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return true
}

// dnsSubdomain is of names of nodes and pods.
func dnsSubdomain(s string) bool {
	if len(s) > maxSubdomain {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || !hyphenated(part) {
			return false
		}
	}
	return true
}

// labelValue is of what is not empty.
func labelValue(s string) bool {
	if s == "" || len(s) > maxLabel || !alnum(s[0]) || !alnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !alnum(s[i]) && s[i] != '-' && s[i] != '_' && s[i] != '.' {
			return false
		}
	}
	return true
}

// qualifiedName is of an appProtocol.
func qualifiedName(s string) bool {
	if prefix, name, slash := strings.Cut(s, "/"); slash {
		return dnsSubdomain(prefix) && labelValue(name)
	}
	return labelValue(s)
}

// targetRef tells whether a reference may be copied. API servers let anything
// pass there, so this is what a reference to an object can be; a pod is of the
// Service's namespace.
func targetRef(t model.TargetRef, namespace string) bool {
	if t == (model.TargetRef{}) {
		return true
	}
	switch {
	case t.Kind == "" || len(t.Kind) > maxLabel || len(t.UID) > maxUID:
		return false
	case t.Namespace != "" && !dnsLabel(t.Namespace), t.Kind == "Pod" && t.Namespace != namespace:
		return false
	case !dnsSubdomain(t.Name):
		return false
	}
	for i := range len(t.Kind) {
		if !alnum(t.Kind[i]) {
			return false
		}
	}
	for i := range len(t.UID) {
		if t.UID[i] <= ' ' || t.UID[i] > '~' {
			return false
		}
	}
	return true
}
