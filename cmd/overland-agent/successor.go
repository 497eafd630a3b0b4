package main

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// successor is a dataplane that removes what an agent before this one has left
// where this one has no rules: once there is something in its place, because till
// then it protects, and afterwards nobody keeps it up to date.
type successor struct {
	dataplane.Dataplane
	// elsewhere removes it, and tells whether there was something.
	elsewhere func(context.Context) (bool, error)
	log       *logrus.Entry
	alone     bool
}

// Apply implements dataplane.Dataplane.
func (s *successor) Apply(ctx context.Context, want *desired.State) (dataplane.Report, error) {
	r, err := s.Dataplane.Apply(ctx, want)
	if s.alone || err != nil || !r.Applied {
		return r, err
	}
	there, failed := s.elsewhere(ctx)
	if s.alone = failed == nil; !s.alone {
		r.Problems = append(r.Problems, model.Problem{
			Kind: model.ProblemDataplane, Message: "rules that nobody keeps up to date may still drop packets: " + failed.Error(),
		})
	} else if there {
		s.log.Warn("an agent before this one had its rules elsewhere: they are removed")
	}
	return r, nil
}

// Remove implements dataplane.Dataplane. What is elsewhere goes first: it may ask
// sets.
func (s *successor) Remove(ctx context.Context) error {
	_, err := s.elsewhere(ctx)
	return errors.Join(err, s.Dataplane.Remove(ctx))
}
