package ipset

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What the errors of this package wrap, beside the kernel's error number.
var (
	ErrNoSet  = errors.New("no such set")
	ErrFull   = errors.New("the set is full")
	ErrUsed   = errors.New("the set is in use")
	ErrKind   = errors.New("there is a set of this name and of another type or family")
	ErrNoType = errors.New("the kernel does not have this type of set")
)

// Error is a refusal of the kernel.
type Error struct {
	// Op is what was to be done, Set to which set.
	Op, Set string
	// Element is what the kernel refused, if it was about one.
	Element string
	Errno   unix.Errno
}

// Error says what was refused and why.
func (e *Error) Error() string {
	text := e.Op
	if e.Set != "" {
		text += " set " + e.Set
	}
	if e.Element != "" {
		text += ", element " + e.Element
	}
	return text + ": " + reason(e.Errno)
}

// Unwrap gives the kernel's error number, and what it means where this package
// has a name for that.
func (e *Error) Unwrap() []error {
	for _, r := range reasons() {
		if r.errno == e.Errno && r.err != nil {
			return []error{r.err, e.Errno}
		}
	}
	return []error{e.Errno}
}

type meaning struct {
	errno unix.Errno
	text  string
	err   error
}

// reasons are the kernel's own error numbers, of ip_set.h and ip_set_hash.h, and
// the usual ones that mean something special here.
func reasons() []meaning {
	return []meaning{
		{unix.ENOENT, "", ErrNoSet},
		{unix.EEXIST, "", ErrKind},
		{unix.EPERM, "not permitted: NET_ADMIN is needed in this network namespace", nil},
		{4097, "the kernel does not understand the message", nil},
		{4098, "", ErrNoType},
		{4099, "there are 65,535 sets already, and there cannot be more", nil},
		{4100, "", ErrUsed},
		{4102, "", ErrKind},
		{4103, "the element is there already, or is not", nil},
		{4104, "invalid prefix length", nil},
		{4106, "the set's type has no such family", nil},
		{4108, "", ErrUsed},
		{4109, "an IPv4 address is expected", nil},
		{4110, "an IPv6 address is expected", nil},
		{4352, "", ErrFull},
		{4353, "the null address cannot be in a set", nil},
		{4354, "invalid protocol", nil},
		{4355, "the protocol is missing", nil},
	}
}

func reason(errno unix.Errno) string {
	for _, r := range reasons() {
		switch {
		case r.errno != errno:
		case r.err != nil:
			return r.err.Error()
		default:
			return fmt.Sprintf("%s (error %d)", r.text, int(errno))
		}
	}
	return fmt.Sprintf("%s (error %d)", errno.Error(), int(errno))
}
