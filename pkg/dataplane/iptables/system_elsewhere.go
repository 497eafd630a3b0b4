package iptables

import (
	"context"
	"errors"
	"fmt"

	"github.com/overland-net/overland/pkg/desired"
)

// RemoveElsewhere removes our hooks and chains from the backend that is not in
// use, and tells whether there were some: a life before this one had that one,
// because it was configured or because Kubernetes had written no rules yet.
// Nobody keeps them up to date, and yet packets walk through them too. They mark
// connections with a generation that the rules in use may have as well; so all
// are judged again.
//
// A backend that cannot be read is passed over: Open has warned of it.
func (s *System) RemoveElsewhere(ctx context.Context) (found bool, err error) {
	var errs []error
	for backend := range s.programs {
		if backend == s.info.Backend {
			continue
		}
		for _, f := range s.families() {
			have, err := s.ours(ctx, backend, f)
			if err != nil {
				continue
			}
			removal := removal(ourChainsIn(have.Raw), ourChainsIn(have.Mangle))
			if removal.empty() {
				continue
			}
			found = true
			if err := s.removeElsewhere(ctx, backend, f, unhooking(have), removal); err != nil {
				errs = append(errs, fmt.Errorf("remove the %s rules that iptables-%s has of an earlier life: %w", f, backend, err))
			}
		}
	}
	return found, errors.Join(errs...)
}

// removeElsewhere removes the chains last: who tries again because something has
// failed finds them, and does all of it.
func (s *System) removeElsewhere(ctx context.Context, backend string, f desired.Family, unhook, remove changes) error {
	if !unhook.empty() {
		if err := s.restore(ctx, backend, f, unhook.script()); err != nil {
			return err
		}
	}
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	if _, err := s.Flows(ctx, FlowChange{Op: ResetMarks, Family: f, All: true, Mask: s.cfg.Mask}); err != nil {
		return err
	}
	return s.restore(ctx, backend, f, remove.script())
}

// ours is what a backend has in the tables where our rules are.
func (s *System) ours(ctx context.Context, backend string, f desired.Family) (t Tables, err error) {
	if s.programs[backend].save(f) == "" {
		return t, nil
	}
	for name, table := range map[string]*Table{tableRaw: &t.Raw, tableMangle: &t.Mangle} {
		if !populated(backend, f, name) {
			continue
		}
		if *table, err = s.table(ctx, backend, f, name); err != nil {
			return Tables{}, err
		}
	}
	return t, nil
}
