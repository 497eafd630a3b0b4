package dataplane

import (
	"context"
	"time"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// Dataplane enforces a State. It is for one goroutine, but for what implements
// Inspector.
type Dataplane interface {
	// Apply makes the kernel enforce want. It is idempotent: with the State that
	// is in force it checks what is cheap to check (the hooks) and repairs that.
	// An error leaves the last good state in force for all that depends on what
	// failed, and the next Apply goes on from there. The Report is true also
	// with an error.
	Apply(ctx context.Context, want *desired.State) (Report, error)
	// Forget makes the next Apply read the kernel back whole, and repair it.
	Forget()
	// Remove deletes all that is ours and nothing else. More than once is fine.
	Remove(ctx context.Context) error
}

// Report is what an Apply did.
type Report struct {
	// Applied: want is in force, whole.
	Applied bool
	// Transactions counts iptables-restore runs, or what is like them: a change
	// of members never needs one.
	Transactions int
	SetsCreated  int
	SetsRemoved  int
	Added        int // members
	Deleted      int
	Swept        int // connections that will be judged again, if they were looked for
	Released     int // connections deleted, because an address was taken or released
	Sweep        time.Duration
	// Raised: all connections will be judged again.
	Raised bool
	// Repaired are the differences that a readback has found and mended, in
	// words, bounded.
	Repaired []string
	// Problems are what is not as it should be though the State is in force, or
	// why a part of it is not: a hook that another program has moved, a foreign
	// rule that interferes, a refused set.
	Problems []model.Problem
	// Retry is when to come back even if nothing changes; 0: no need.
	Retry time.Duration
}

// Inspector reads back what the kernel holds, for people. It may be called from
// any goroutine, while Apply runs too.
type Inspector interface {
	// Inspect compares what decides about a flow in want with what the kernel
	// holds: the chains that it would walk and the sets that these ask.
	Inspect(ctx context.Context, want *desired.State, f desired.Flow) (Inspection, error)
}

// Inspection is what an Inspector has found.
type Inspection struct {
	// Agrees: the kernel holds all of it.
	Agrees bool
	Sets   []SetCheck
	Chains []ChainCheck
}

// SetCheck is whether an address (and port) is a member of a set.
type SetCheck struct {
	Set          desired.SetID
	Text         string // what it means
	Element      string
	Want, Kernel bool
}

// ChainCheck is whether a chain is as it should be.
type ChainCheck struct {
	Table, Chain string
	Family       desired.Family
	Agrees       bool
	Difference   string // in words; empty if it agrees
}
