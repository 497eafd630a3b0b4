package iptables

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/overland-net/overland/pkg/dataplane/conntrack"
	"github.com/overland-net/overland/pkg/dataplane/ipset"
	"github.com/overland-net/overland/pkg/desired"
)

const (
	// Tables of others may be large, and what is looked for there is rare.
	foreignInterval = 10 * time.Minute
	// maxForeign is how many rules of others are told.
	maxForeign = 20
)

var _ Kernel = (*System)(nil)

// foreignScan is what was found in the tables in which nothing is ours.
type foreignScan struct {
	at    time.Time
	rules []string
}

// Tables implements Kernel. Of a family that is off there is nothing.
func (s *System) Tables(ctx context.Context, f desired.Family) (Tables, error) {
	var t Tables
	if f == desired.IPv6 && !s.info.IPv6 {
		return t, nil
	}
	for _, part := range []struct {
		name  string
		table *Table
		hooks []string
	}{
		{tableMangle, &t.Mangle, []string{"FORWARD", "INPUT"}},
		{tableRaw, &t.Raw, []string{"PREROUTING"}},
	} {
		table, err := s.table(ctx, s.info.Backend, f, part.name)
		if err != nil {
			return Tables{}, err
		}
		t.Foreign = append(t.Foreign, foreignRules(part.name, table, s.cfg.Mask)...)
		for chain := range table {
			if !isOurs(chain) && !slices.Contains(part.hooks, chain) {
				delete(table, chain)
			}
		}
		*part.table = table
	}
	t.Foreign = append(t.Foreign, s.foreignElsewhere(ctx, f)...)
	t.Foreign = t.Foreign[:min(len(t.Foreign), maxForeign)]
	return t, nil
}

// table reads one table of a backend.
func (s *System) table(ctx context.Context, backend string, f desired.Family, name string) (Table, error) {
	out, err := s.run(ctx, s.programs[backend].save(f), nil, "-t", name)
	if err != nil {
		return nil, fmt.Errorf("read table %s: %w", name, err)
	}
	tables, err := parseSave(string(out))
	if err != nil {
		return nil, fmt.Errorf("read table %s: %w", name, err)
	}
	if tables[name] == nil {
		return Table{}, nil
	}
	return tables[name], nil
}

// foreignRules are the rules of others that interfere, sorted by chain.
func foreignRules(name string, t Table, mask uint32) []string {
	var found []string
	for chain, rules := range t {
		if isOurs(chain) {
			continue
		}
		for _, r := range rules {
			if interferes(r, mask) {
				found = append(found, fmt.Sprintf("%s -A %s %s", name, chain, r))
			}
		}
	}
	slices.Sort(found)
	return found
}

// foreignElsewhere looks for such rules where nothing is ours: in tables nat and
// filter, and in those of the other backend, if there are any. What cannot be
// read there is not of interest.
func (s *System) foreignElsewhere(ctx context.Context, f desired.Family) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if scan, ok := s.foreign[f]; ok && time.Since(scan.at) < foreignInterval {
		return slices.Clone(scan.rules)
	}
	var found []string
	for backend := range s.programs {
		for _, name := range []string{tableRaw, tableMangle, "nat", "filter"} {
			if backend == s.info.Backend && (name == tableRaw || name == tableMangle) || !populated(backend, f, name) {
				continue
			}
			table, err := s.table(ctx, backend, f, name)
			if err != nil {
				continue
			}
			for _, r := range foreignRules(name, table, s.cfg.Mask) {
				if backend != s.info.Backend {
					r += " (of iptables-" + backend + ")"
				}
				found = append(found, r)
			}
		}
	}
	slices.Sort(found)
	if ctx.Err() == nil {
		s.foreign[f] = foreignScan{at: time.Now(), rules: found[:min(len(found), maxForeign)]}
	}
	return slices.Clone(found)
}

// populated tells whether a table of the backend may be there: to look into one
// of legacy makes it. That of nft is only looked for.
func populated(backend string, f desired.Family, table string) bool {
	if backend == BackendNFT {
		return true
	}
	name := "ip_tables_names"
	if f == desired.IPv6 {
		name = "ip6_tables_names"
	}
	// Of this thread: a thread may be in another network namespace than the
	// process.
	b, err := os.ReadFile("/proc/thread-self/net/" + name)
	return err == nil && slices.Contains(strings.Fields(string(b)), table)
}

// Sets implements Kernel.
func (s *System) Sets(ctx context.Context) ([]SetHeader, error) {
	list, err := s.read.List(ctx, isOurSet)
	if err != nil {
		return nil, err
	}
	headers := make([]SetHeader, len(list))
	for i, h := range list {
		headers[i] = SetHeader{Name: h.Name, Type: SetType(h.Type), Family: h.Family, Size: h.Size}
	}
	return headers, nil
}

// isOurSet tells names like those of desired.SetID, of this life or an earlier
// one: what is not ours must not be destroyed for a name that begins alike.
func isOurSet(name string) bool {
	return strings.HasPrefix(name, "ovl4-") || strings.HasPrefix(name, "ovl6-")
}

// Elements implements Kernel.
func (s *System) Elements(ctx context.Context, name string) ([]Element, error) {
	_, list, err := s.read.Elements(ctx, name)
	if err != nil {
		return nil, setError(err)
	}
	elements := make([]Element, len(list))
	for i, e := range list {
		elements[i] = Element(e)
	}
	return elements, nil
}

// Change implements Kernel.
func (s *System) Change(ctx context.Context, changes []SetChange) error {
	for _, c := range changes {
		if err := s.change(ctx, c); err != nil {
			return setError(err)
		}
	}
	return nil
}

func (s *System) change(ctx context.Context, c SetChange) error {
	set := ipset.Set{Name: c.Set.Name, Type: ipset.Type(c.Set.Type), Family: c.Set.Family, Size: c.Set.Size}
	var elements iter.Seq[ipset.Element] = func(yield func(ipset.Element) bool) {
		if c.Elements == nil {
			return
		}
		for e := range c.Elements {
			if !yield(ipset.Element(e)) {
				return
			}
		}
	}
	var err error
	switch c.Op {
	case CreateSet:
		return s.write.Create(ctx, set)
	case DestroySet:
		return s.write.Destroy(ctx, set.Name)
	case AddElements:
		_, err = s.write.Add(ctx, set, elements)
	case DeleteElements:
		_, err = s.write.Delete(ctx, set, elements)
	default:
		err = fmt.Errorf("set %s: unknown operation %d", set.Name, c.Op)
	}
	return err
}

// setError gives an error the name that this package has for it.
func setError(err error) error {
	for is, name := range map[error]error{
		ipset.ErrNoSet: ErrNoSet, ipset.ErrFull: ErrSetFull, ipset.ErrUsed: ErrSetUsed, ipset.ErrKind: ErrSetKind,
	} {
		if errors.Is(err, is) {
			return named{error: err, name: name}
		}
	}
	return err
}

// named is an error that is name too, and does not say it twice.
type named struct {
	error
	name error
}

func (n named) Unwrap() []error { return []error{n.name, n.error} }

// Flows implements Kernel.
func (s *System) Flows(ctx context.Context, c FlowChange) (int, error) {
	f := conntrack.Filter{IPv6: c.Family == desired.IPv6, All: c.All, Addrs: c.Addrs}
	switch {
	case c.Family != desired.IPv4 && c.Family != desired.IPv6:
		return 0, errors.New("connections: the family is neither IPv4 nor IPv6")
	case c.Op == ResetMarks:
		return s.ct.ResetMarks(ctx, f, c.Mask)
	case c.Op == DeleteFlows:
		return s.ct.Delete(ctx, f)
	}
	return 0, fmt.Errorf("connections: unknown operation %d", c.Op)
}
