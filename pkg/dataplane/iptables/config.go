package iptables

import (
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/overland-net/overland/pkg/desired"
)

// The defaults of a Config.
const (
	DefaultMask   uint32 = 0xff000000
	DefaultPrefix        = "azv" // of the interfaces that Azure CNI makes for pods
	// DefaultCheckInterval is shorter than the 5 s in which a hook that another
	// program has moved must be seen, so that a check is due at each of them.
	DefaultCheckInterval = 4 * time.Second
)

// Config is what the dataplane has to know of its node. The zero values of its
// fields stand for the defaults.
type Config struct {
	// Mask are the bits of connection marks that hold the generation: two at
	// least, side by side.
	Mask uint32
	// Prefix is how the names of pod interfaces begin.
	Prefix string
	// IPv6: the rules and sets of IPv6 too.
	IPv6 bool
	// Missing are optional features that the kernel does not have (Info.Missing):
	// what needs them is said without, or left out as a Problem.
	Missing []Feature
	// CheckInterval is how old what was read of the rules may become, while
	// States come in one after the other.
	CheckInterval time.Duration
}

// Validate tells what is wrong with the configuration.
func (c Config) Validate() error {
	c = c.withDefaults()
	run := c.Mask >> bits.TrailingZeros32(c.Mask)
	if run&(run+1) != 0 || run < 3 {
		return fmt.Errorf("mask %#x: expected two or more bits side by side, such as %#x", c.Mask, DefaultMask)
	}
	if !nameable(c.Prefix) || len(c.Prefix) >= maxInterface {
		return fmt.Errorf("interface prefix %q: expected at most %d letters, digits, '.', '_' or '-'", c.Prefix, maxInterface-1)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Mask == 0 {
		c.Mask = DefaultMask
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if c.CheckInterval == 0 {
		c.CheckInterval = DefaultCheckInterval
	}
	return c
}

func (c Config) misses(f Feature) bool { return slices.Contains(c.Missing, f) }

func (c Config) families() []desired.Family {
	if c.IPv6 {
		return []desired.Family{desired.IPv4, desired.IPv6}
	}
	return []desired.Family{desired.IPv4}
}

// mark is a generation where connection marks hold it.
type mark struct {
	value, mask uint32
}

func (c Config) mark(generation uint8) mark {
	return mark{value: uint32(generation) << bits.TrailingZeros32(c.Mask), mask: c.Mask}
}

// generations is the highest generation: 255, if the mask has room for it.
func (c Config) generations() uint8 {
	return uint8(min(255, c.Mask>>bits.TrailingZeros32(c.Mask)))
}

// maxInterface is IFNAMSIZ without the ending zero.
const maxInterface = 15

// nameable tells whether rules can name the interface: with another character
// it could mean something else to iptables ("+" is a wildcard), and no program
// gives such names.
func nameable(name string) bool {
	if name == "" || len(name) > maxInterface {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
