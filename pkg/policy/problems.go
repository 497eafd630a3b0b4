package policy

import (
	"slices"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// Problems is what is wrong with a policy by its own words and its namespace's
// annotation, whatever pods there are and on whichever node: with its
// podSelector, its peers and ports, its scope, and what could not be read
// (semantics 2.12). ns is the policy's namespace, nil if it is not known. They
// are sorted, each once. What depends on the pods of a node, limits among it,
// only the Set of that node can tell.
func (c Config) Problems(p *model.Policy, ns *model.Namespace) []model.Problem {
	_, problems := c.subjects(p)
	_, more := c.units(p, ns)
	problems = append(problems, more...)
	slices.SortFunc(problems, compareProblems)
	return slices.Compact(problems)
}

// subjects is Subjects, with what could not be read of the policy among the
// Problems.
func (c Config) subjects(p *model.Policy) (selector.Selector, []model.Problem) {
	sel, problems := c.Subjects(p)
	for _, message := range p.Malformed {
		problems = append(problems, model.Problem{Kind: model.ProblemPolicy, Object: p.Key, Message: message})
	}
	return sel, problems
}

// units are those of the directions that a policy isolates.
func (c Config) units(p *model.Policy, ns *model.Namespace) ([]*unit, []model.Problem) {
	mesh, problems := c.MeshScope(p, ns)
	var units []*unit
	for _, d := range directions() {
		rules, isolated := isolates(p, d)
		if !isolated {
			continue
		}
		r := reader{config: c, policy: p, mesh: mesh, direction: d}
		for i, rule := range rules {
			r.rule = i
			r.read(rule)
		}
		units = append(units, r.units...)
		problems = append(problems, r.problems...)
	}
	return units, problems
}
