package iptables

import (
	"context"
	"errors"
	"iter"
	"net/netip"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// Kernel is what a node's kernel is asked. All but the reading of what is ours
// is done by one goroutine; Tables, Sets and Elements may be called from any.
type Kernel interface {
	// Tables reads our chains of a family, the built-in chains that hook them,
	// and foreign rules that may interfere.
	Tables(ctx context.Context, f desired.Family) (Tables, error)
	// Restore applies a script in the form of iptables-restore --noflush as one
	// transaction a table. ErrLocked: another program holds the lock.
	Restore(ctx context.Context, f desired.Family, script []byte) error
	// Sets lists the sets whose names begin as ours do, with their sizes.
	Sets(ctx context.Context) ([]SetHeader, error)
	// Elements lists a set. ErrNoSet: there is none of that name.
	Elements(ctx context.Context, name string) ([]Element, error)
	// Change does the changes in order, in batches, and ends at the first that
	// fails: with an error that names the set. Adds of what is there and deletes
	// of what is not are fine.
	Change(ctx context.Context, changes []SetChange) error
	// Flows changes connections that are tracked, and counts them.
	Flows(ctx context.Context, change FlowChange) (int, error)
}

// What a Kernel's errors wrap.
var (
	ErrLocked  = errors.New("another program holds the xtables lock")
	ErrNoSet   = errors.New("no such set")
	ErrSetFull = errors.New("the set is full")
	ErrSetUsed = errors.New("the set is in use")
	ErrSetKind = errors.New("there is a set of this name and of another kind")
)

// Tables is what is there of one family.
type Tables struct {
	Mangle, Raw Table
	// Foreign are rules of others that may interfere, each as iptables-save
	// prints it with its table before it: CONNMARK without a mask, NOTRACK.
	Foreign []string
}

// Table has chains by name, each with its rules as iptables-save prints them,
// but for the "-A CHAIN " before: ours, and the built-in ones that we hook, with
// the rules of others too.
type Table map[string][]string

// SetType is the kernel's type of a set.
type SetType string

// The types in use.
const (
	HashIP     SetType = "hash:ip"
	HashIPPort SetType = "hash:ip,port"
	HashNet    SetType = "hash:net"
)

// SetHeader is a set without its elements.
type SetHeader struct {
	Name   string
	Type   SetType
	Family desired.Family
	// Size is how many elements there are or, of a set to be made, are expected.
	Size int
}

// Element is a member of a set.
type Element struct {
	Addr     netip.Addr
	Bits     uint8          // of HashNet: the prefix length
	Protocol model.Protocol // of HashIPPort
	Port     uint16         // of HashIPPort
	NoMatch  bool           // of HashNet
}

// SetOp is what is done to a set.
type SetOp uint8

// The operations.
const (
	CreateSet  SetOp = iota // fine if it is there with the same type and family
	DestroySet              // fine if it is not there
	AddElements
	DeleteElements
)

// SetChange is an operation on a set.
type SetChange struct {
	Op       SetOp
	Set      SetHeader // its name is enough for DestroySet
	Elements iter.Seq[Element]
}

// FlowOp is what is done to connections.
type FlowOp uint8

// The operations.
const (
	// ResetMarks sets the bits of the mask to 0 in the connection's mark:
	// they are judged again at the next packet.
	ResetMarks FlowOp = iota
	// DeleteFlows forgets them. Never to tighten.
	DeleteFlows
)

// FlowChange is about the connections of a family whose original source, or
// whose reply source (which is the real destination), is one of Addrs; or about
// all of them.
type FlowChange struct {
	Op     FlowOp
	Family desired.Family
	All    bool
	Addrs  []netip.Addr
	Mask   uint32
}
