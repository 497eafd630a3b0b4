package iptables

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/desired"
)

// listSets learns which sets there are; what they hold is not read.
func (a *applying) listSets() {
	headers, err := a.kernel.Sets(a.ctx)
	if err != nil {
		for _, f := range a.families {
			a.fail(f.family, fmt.Errorf("list the sets: %w", err))
		}
		return
	}
	old := a.sets
	a.relist, a.untidy = false, true
	a.Dataplane.sets = make(map[string]*heldSet, len(headers))
	for _, h := range headers {
		held, ok := old[h.Name]
		if !ok || held.header.Type != h.Type || held.header.Family != h.Family {
			held = &heldSet{header: h}
		}
		a.sets[h.Name] = held
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		spec, wanted := a.want.Rules.Spec(desired.SetID(name))
		if _, there := a.sets[name]; there || !wanted {
			continue
		}
		a.behind[spec.ID] = struct{}{}
		if old[name].known {
			a.mended("set %s was gone", name)
		}
	}
}

// setWork is what one set needs.
type setWork struct {
	setChanges
	create, destroy bool
}

// phase is a part of the work on sets; each is done for all sets before the
// next one.
type phase uint8

const (
	// Of an address that lost its owner, deletes come before all adds: for a
	// moment it is nobody's, and never both the old and the new one's.
	loseOwner phase = iota
	// Then adds, then the other deletes: what moves from set to set is in one
	// of them all the time.
	gain
	lose
	phases
)

// steps are one phase of the work as changes of the kernel.
func (w setWork) steps(p phase, lost func(Element) bool) []SetChange {
	h := w.want.header()
	var s []SetChange
	if p == loseOwner && w.destroy {
		s = append(s, SetChange{Op: DestroySet, Set: h})
	}
	if p == loseOwner && w.create {
		s = append(s, SetChange{Op: CreateSet, Set: h})
	}
	if p == gain && w.adds > 0 {
		s = append(s, SetChange{Op: AddElements, Set: h, Elements: w.add})
	}
	if p == gain || w.deletes == 0 {
		return s
	}
	elements := filter(w.delete, func(e Element) bool { return lost(e) == (p == loseOwner) })
	for range elements {
		return append(s, SetChange{Op: DeleteElements, Set: h, Elements: elements})
	}
	return s
}

func filter(all iter.Seq[Element], keep func(Element) bool) iter.Seq[Element] {
	return func(yield func(Element) bool) {
		for e := range all {
			if keep(e) && !yield(e) {
				return
			}
		}
	}
}

// updateSets gives every wanted set its members: first sets that may be in use,
// then new ones.
func (a *applying) updateSets() {
	if a.sets == nil {
		return
	}
	var existing, fresh []setWork
	for _, id := range slices.Sorted(maps.Keys(a.behind)) {
		spec, ok := a.want.Rules.Spec(id)
		if !ok || a.program.Family(spec.Family) == nil {
			delete(a.behind, id)
			continue
		}
		w, err := a.work(contentOf(a.want, spec))
		switch {
		case err != nil:
			a.fail(spec.Family, err)
			a.stuckAll[spec.Family] = true
		case w.create:
			fresh = append(fresh, w)
		default:
			existing = append(existing, w)
		}
	}
	a.change(existing)
	a.change(fresh)
	if len(a.behind) == 0 {
		clear(a.lost)
		a.lostAll = false
	}
}

// lostOwner tells whether an element is of an address that may have lost its owner
// since all sets were as they had to be.
func (a *applying) lostOwner(e Element) bool {
	_, ok := a.lost[e.Addr]
	return ok || a.lostAll
}

// work is what a set needs, which may have to be read first.
func (a *applying) work(want content) (setWork, error) {
	h := want.header()
	held, ok := a.sets[h.Name]
	switch {
	case !ok:
		return fromNothing(want, false), nil
	case held.header.Type != h.Type || held.header.Family != h.Family:
		return fromNothing(want, true), nil
	case held.known && !held.verify:
		return setWork{setChanges: want.from(held.content)}, nil
	}
	elements, err := a.kernel.Elements(a.ctx, h.Name)
	if errors.Is(err, ErrNoSet) {
		delete(a.sets, h.Name)
		return fromNothing(want, false), nil
	}
	if err != nil {
		return setWork{}, fmt.Errorf("read set %s (%s): %w", h.Name, brief(want.spec.Text), err)
	}
	if held.known {
		a.setDrift(held.content, elements)
	}
	w := setWork{setChanges: want.fromElements(elements)}
	a.misjudged(w.setChanges)
	return w, nil
}

func fromNothing(want content, destroy bool) setWork {
	return setWork{
		setChanges: setChanges{want: want, add: want.all(), adds: want.len()},
		create:     true, destroy: destroy,
	}
}

// setDrift reports how a set differs from what we put there.
func (a *applying) setDrift(believed content, elements []Element) {
	if drift := believed.fromElements(elements); drift.deletes+drift.adds > 0 {
		a.mended("set %s (%s): %d members too many, %d were missing",
			believed.spec.ID, brief(believed.spec.Text), drift.deletes, drift.adds)
	}
}

// misjudged has connections judged again that were judged by what a set held
// and should not have.
func (a *applying) misjudged(ch setChanges) {
	f := a.family(ch.want.spec.Family)
	if ch.want.spec.Kind == desired.Networks {
		// A missing one may have let pass more, too.
		f.raise = f.raise || ch.deletes+ch.adds > 0
		return
	}
	now := a.now()
	for e := range ch.delete {
		f.leave(e.Addr, now)
	}
}

// fromElements is what has to change where the kernel holds elements.
func (c content) fromElements(elements []Element) setChanges {
	ch := setChanges{want: c, add: nothing}
	var extra []Element
	for _, e := range elements {
		if !c.has(e) {
			extra = append(extra, e)
		}
	}
	ch.delete, ch.deletes = slices.Values(extra), len(extra)
	if ch.adds = c.len() - (len(elements) - len(extra)); ch.adds == 0 {
		return ch
	}
	there := make(map[Element]struct{}, len(elements))
	for _, e := range elements {
		there[e] = struct{}{}
	}
	ch.add = func(yield func(Element) bool) {
		for e := range c.all() {
			if _, ok := there[e]; !ok && !yield(e) {
				return
			}
		}
	}
	return ch
}

func nothing(func(Element) bool) {}

// change does the work, all at once or, if that fails, set by set, so that one
// set which the kernel refuses does not hold back the others. To do a step twice
// does no harm.
func (a *applying) change(work []setWork) {
	var all []SetChange
	for p := range phases {
		for _, w := range work {
			all = append(all, w.steps(p, a.lostOwner)...)
		}
	}
	errs := make([]error, len(work))
	if len(all) > 0 && a.kernel.Change(a.ctx, all) != nil {
		for p := range phases {
			for i, w := range work {
				if steps := w.steps(p, a.lostOwner); len(steps) > 0 && errs[i] == nil {
					errs[i] = a.kernel.Change(a.ctx, steps)
				}
			}
		}
	}
	for i, w := range work {
		a.changed(w, errs[i])
	}
}

func (a *applying) changed(w setWork, err error) {
	h := w.want.header()
	if err != nil {
		a.notFilled(w, fmt.Errorf("fill set %s (%s): %w", h.Name, brief(w.want.spec.Text), err))
		return
	}
	a.sets[h.Name] = &heldSet{header: h, content: w.want, known: true}
	delete(a.behind, w.want.spec.ID)
	a.report.Deleted += w.deletes
	a.report.Added += w.adds
	if w.create {
		a.report.SetsCreated++
	}
}

// notFilled holds back the family's rules: with a set that has members of the
// old State they might allow what neither State does, and with one that lacks
// members of the new State drop what both allow.
func (a *applying) notFilled(w setWork, err error) {
	h := w.want.header()
	a.fail(h.Family, err)
	if w.create {
		a.relist = true
		return
	}
	// It may hold some of the changes: it is read before the next try.
	a.sets[h.Name].known = false
	for e := range w.delete {
		a.stuck[e.Addr] = struct{}{}
	}
}

func (a *applying) family(f desired.Family) *family {
	i := slices.IndexFunc(a.families, func(x *family) bool { return x.family == f })
	return a.families[i]
}

// brief is the meaning of a set, short enough for a line of a log.
func brief(text string) string {
	const most = 120
	text = strings.ReplaceAll(text, "\n", " ")
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}
