package netprobe

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// Schemes of targets.
const (
	schemeTCP  = "tcp"
	schemeUDP  = "udp"
	schemeSCTP = "sctp"
	schemeICMP = "icmp"
)

const (
	// MaxSize is the largest payload of a datagram, in bytes: under what fits
	// in one IPv4 packet with its headers (65507), rounded.
	MaxSize = 60000
	// maxHold bounds `hold`, which is meant for policy changes, not for soaks.
	maxHold = 10 * time.Minute
)

// Target is what to probe. The zero value of an option means its default.
type Target struct {
	Raw    string // as it was given
	Scheme string // tcp, udp, sctp or icmp
	Host   string // an address or a name
	Port   uint16 // 0 for icmp
	// Size is the request's payload in bytes; 0 means the smallest.
	Size int
	// Hold is how long to wait after the first answer before asking again
	// on the same connection; 0 means to ask once.
	Hold time.Duration
	// Family is 4, 6, or 0 for whichever the name resolves to, IPv4 first.
	Family int
}

// ParseTarget parses tcp://HOST:PORT, udp://HOST:PORT, sctp://HOST:PORT or
// icmp://HOST, with the options family=4|6, size=BYTES (not for sctp) and
// hold=DURATION (tcp and udp). IPv6 addresses stand in brackets.
func ParseTarget(raw string) (Target, error) {
	t, err := parseTarget(raw)
	if err != nil {
		return Target{}, fmt.Errorf("target %q: %w", raw, err)
	}
	return t, nil
}

func parseTarget(raw string) (Target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		var urlErr *url.Error
		if errors.As(err, &urlErr) {
			err = urlErr.Err // without the target once more
		}
		return Target{}, err
	}
	if u.User != nil || u.Path != "" || u.Fragment != "" || u.Opaque != "" {
		return Target{}, errors.New("want SCHEME://HOST:PORT")
	}
	t := Target{Raw: raw, Scheme: u.Scheme, Host: u.Hostname()}
	if t.Host == "" {
		return Target{}, errors.New("has no host")
	}
	switch t.Scheme {
	case schemeTCP, schemeUDP, schemeSCTP:
		port, err := parsePort(u.Port())
		if err != nil {
			return Target{}, err
		}
		t.Port = port
	case schemeICMP:
		if u.Port() != "" {
			return Target{}, errors.New("icmp has no ports")
		}
	default:
		return Target{}, fmt.Errorf("scheme %q is not tcp, udp, sctp or icmp", t.Scheme)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Target{}, err
	}
	for key, values := range query {
		if len(values) != 1 {
			return Target{}, fmt.Errorf("option %s is given %d times", key, len(values))
		}
		if err := t.setOption(key, values[0]); err != nil {
			return Target{}, err
		}
	}
	return t, t.checkFamily()
}

func parsePort(s string) (uint16, error) {
	port, err := strconv.ParseUint(s, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("port %q is not a number from 1 to 65535", s)
	}
	return uint16(port), nil
}

func (t *Target) setOption(key, value string) error {
	switch {
	case key == "family" && (value == "4" || value == "6"):
		t.Family = int(value[0] - '0')
	case key == "family":
		return fmt.Errorf("family %q is not 4 or 6", value)
	case key == "size" && t.Scheme != schemeSCTP:
		size, err := strconv.Atoi(value)
		if err != nil || size < 1 || size > MaxSize {
			return fmt.Errorf("size %q is not a number of bytes from 1 to %d", value, MaxSize)
		}
		t.Size = size
	case key == "hold" && (t.Scheme == schemeTCP || t.Scheme == schemeUDP):
		hold, err := time.ParseDuration(value)
		if err != nil || hold <= 0 || hold > maxHold {
			return fmt.Errorf("hold %q is not a duration up to %s", value, maxHold)
		}
		t.Hold = hold
	default:
		return fmt.Errorf("%s has no option %q", t.Scheme, key)
	}
	return nil
}

// checkFamily refuses an address that is not of the family asked for.
func (t *Target) checkFamily() error {
	addr, err := netip.ParseAddr(t.Host)
	if err != nil || t.Family == 0 {
		return nil
	}
	if addr.Unmap().Is4() != (t.Family == 4) {
		return fmt.Errorf("%s is not an address of family %d", addr, t.Family)
	}
	return nil
}
