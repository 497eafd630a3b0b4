package dataplanetest

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/overland-net/overland/pkg/dataplane/iptables"
)

// Op is a method of a Kernel.
type Op uint8

// The methods.
const (
	OpTables Op = iota
	OpRestore
	OpSets
	OpElements
	OpChange
	OpFlows
)

// Effect is how much of an operation that fails is done all the same.
type Effect uint8

// The effects.
const (
	Nothing Effect = iota
	Part           // a table of two, some members of a set, some connections
	All            // the answer was lost
)

// ErrInjected is what the errors of faults wrap.
var ErrInjected = errors.New("injected fault")

// Killed is what a Kernel panics with where KillAfter says so: the process that
// asked is no more. Whoever catches it goes on with a new Dataplane.
type Killed struct{}

type faults struct {
	oneIn    int
	scripted []scripted
	// kill is how many more operations are done before the process ends; the
	// last one to the extent of killEffect. 0: never.
	kill       int
	killEffect Effect
}

type scripted struct {
	op     Op
	effect Effect
	err    error
}

// FailNext makes the next operation of that kind fail, before any random fault.
// Several are taken in order. A nil error means ErrInjected.
func (k *Kernel) FailNext(op Op, effect Effect, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		err = ErrInjected
	}
	k.faults.scripted = append(k.faults.scripted, scripted{op, effect, err})
}

// forgive forgets what FailNext was asked for and did not come to.
func (k *Kernel) forgive() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.faults.scripted = nil
}

// OneIn sets how many operations there are to one that fails; 0: none does.
func (k *Kernel) OneIn(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.faults.oneIn = n
}

// KillAfter ends the process in the n-th operation from here, which has the
// effect said. 0: not at all.
func (k *Kernel) KillAfter(n int, effect Effect) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.faults.kill, k.faults.killEffect = n, effect
}

// fate is what becomes of an operation.
type fate struct {
	most int   // how many steps are done, of those that it has
	err  error // if it fails after them
	kill bool
}

func (k *Kernel) fate(op Op) fate {
	if k.faults.kill > 0 {
		if k.faults.kill--; k.faults.kill == 0 {
			return fate{most: k.most(k.faults.killEffect), kill: true}
		}
	}
	for i, s := range k.faults.scripted {
		if s.op == op {
			k.faults.scripted = append(k.faults.scripted[:i:i], k.faults.scripted[i+1:]...)
			return fate{most: k.most(s.effect), err: s.err}
		}
	}
	if k.faults.oneIn > 0 && k.rng.IntN(k.faults.oneIn) == 0 {
		err := ErrInjected
		effect := Effect(k.rng.IntN(3))
		if op == OpRestore && effect == Nothing && k.rng.IntN(2) == 0 {
			err = fmt.Errorf("%w: %w", ErrInjected, iptables.ErrLocked)
		}
		return fate{most: k.most(effect), err: err}
	}
	return fate{most: math.MaxInt}
}

// most is how many steps an effect lets through.
func (k *Kernel) most(e Effect) int {
	switch e {
	case Nothing:
		return 0
	case Part:
		return 1 + k.rng.IntN(4)
	default:
		return math.MaxInt
	}
}

// errCutShort ends an operation whose steps are used up.
var errCutShort = errors.New("cut short")

// operation does what an operation does, as far as its fate lets it.
func (k *Kernel) operation(ctx context.Context, op Op, what string, f func(most int) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.mu.Lock()
	fate := k.fate(op)
	k.note("%s", what)
	if fate.err != nil || fate.kill {
		k.note("  fails: most %d steps, killed %t, %v", fate.most, fate.kill, fate.err)
	}
	k.mu.Unlock()
	var err error
	if fate.most > 0 {
		err = f(fate.most)
	}
	switch {
	case fate.kill:
		panic(Killed{})
	case fate.err != nil:
		return fate.err
	case err != nil:
		k.mu.Lock()
		k.note("  refused: %v", err)
		k.mu.Unlock()
	}
	return err
}
