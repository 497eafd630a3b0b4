package main

import (
	"context"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/node"
)

// rememberAgain is when node.json is written again that could not be.
const rememberAgain = 30 * time.Second

// ownNode is this node: its interfaces, and what is remembered of it.
type ownNode struct {
	watcher *node.Watcher
	deliver func([]model.Interface) // set before the Watcher runs
	state   *node.State             // nil: nothing is remembered
	start   node.Start
	log     *logrus.Entry
}

// openNode decides what kind of start this is. Without a dataplane nothing is to
// be remembered: the first installation is that of one.
func openNode(cfg Config, log *logrus.Entry) (*ownNode, error) {
	own := &ownNode{log: log}
	var err error
	if own.watcher, err = node.NewWatcher(func(list []model.Interface) { own.deliver(list) }, log); err != nil {
		return nil, err
	}
	if cfg.Dataplane == dataplaneNone {
		return own, nil
	}
	own.state, own.start, err = node.Begin(cfg.StateDir, cfg.BootIDFile, own.watcher.List)
	if own.state == nil {
		own.watcher.Close()
		return nil, err
	}
	if err != nil {
		// The node must not stay without protection because its disk is full.
		log.WithError(err).Error("this start is not remembered, and the next one will be taken for the same kind: trying again")
	}
	if damage := own.state.Damage(); damage != nil {
		log.WithError(damage).Error("what was remembered of this node is lost: if the kernel holds no rules of an agent, this is taken for a reboot")
	}
	log.WithFields(logrus.Fields{
		"start": own.start, "installation": own.state.InstallID(), "grandfathered": len(own.state.Grandfathered()),
	}).Info("this node's state is read")
	return own, nil
}

func (n *ownNode) grandfathered() []model.Interface {
	if n.state == nil {
		return nil
	}
	return n.state.Grandfathered()
}

// remember writes down which interfaces are still grandfathered, until ctx ends.
func (n *ownNode) remember(ctx context.Context, snapshots func() (*agent.Snapshot, <-chan struct{})) error {
	if n.state == nil {
		return nil
	}
	written, failing := n.state.Grandfathered(), n.state.Save() != nil
	for {
		snapshot, newer := snapshots()
		now := snapshot.Grandfathered
		if failing || !slices.EqualFunc(now, written, sameLink) {
			err := n.state.Keep(now)
			if err != nil && !failing {
				n.log.WithError(err).Error("which interfaces are grandfathered is not remembered: trying again")
			}
			written, failing = now, err != nil
		}
		var again <-chan time.Time
		if failing {
			again, newer = time.After(rememberAgain), nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-newer:
		case <-again:
		}
	}
}

func sameLink(a, b model.Interface) bool { return a.Name == b.Name && a.Index == b.Index }
