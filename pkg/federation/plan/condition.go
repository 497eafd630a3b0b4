package plan

import (
	"strings"

	"github.com/overland-net/overland/pkg/model"
)

// ConditionFederated is the type of the condition on a federated Service.
const ConditionFederated = "overland.dev/Federated"

// The reasons of ConditionFederated, each before those that it takes precedence
// over. Plan never gives ReasonWriteForbidden: it is for whoever writes.
const (
	// The status is False.
	ReasonExternalName        = "ExternalName"
	ReasonSelectorSet         = "SelectorSet"
	ReasonInvalidExpression   = "InvalidExpression"
	ReasonAnnotationsDisagree = "AnnotationsDisagree"
	ReasonWriteForbidden      = "WriteForbidden"
	ReasonForeignEndpoints    = "ForeignEndpoints"
	// The status is True.
	ReasonNoBackingServices = "NoBackingServices"
	ReasonNoMatchingPort    = "NoMatchingPort"
	ReasonNoReadyEndpoints  = "NoReadyEndpoints"
	ReasonPartlyStale       = "PartlyStale"
	ReasonInSync            = "InSync"
)

// Condition is the condition ConditionFederated.
type Condition struct {
	True            bool
	Reason, Message string
}

// Stands tells whether the Service bears the condition already, and no other of
// ours; nil: whether it bears none.
func (c *Condition) Stands(s *model.Service) bool {
	if c == nil {
		return len(s.Conditions) == 0
	}
	if len(s.Conditions) != 1 {
		return false
	}
	had := s.Conditions[0]
	return had.Type == ConditionFederated && had.Status == c.Status() && had.Reason == c.Reason && had.Message == c.Message
}

// Status is the status as the API has it.
func (c *Condition) Status() string {
	if c.True {
		return "True"
	}
	return "False"
}

// maxMessage is what the API takes as a condition's message.
const maxMessage = 1024

// condition is the condition of a federated Service: of several reasons the first
// in the order of the constants. Its message changes with the reason and what is
// named, not with each endpoint.
func (p *planner) condition() *Condition {
	declared := p.federated.declared
	c := &Condition{}
	switch {
	case p.unserved() == ReasonExternalName:
		c.Reason, c.Message = ReasonExternalName, "the type is ExternalName: remove the annotation, or change the type"
	case p.unserved() == ReasonSelectorSet:
		c.Reason, c.Message = ReasonSelectorSet, "spec.selector is set, so that its endpoints are the cluster's own: remove the selector, or the annotation"
	case declared.reason != "":
		c.Reason, c.Message = declared.reason, declared.message
		if p.federated.matcher != nil {
			c.Message += "; the last good expression still holds: " + p.applied
		}
	case len(p.foreign) > 0:
		c.Reason, c.Message = ReasonForeignEndpoints, foreignMessage(p.foreign)
	default:
		c.True = true
		c.Reason, c.Message = p.working()
	}
	if len(c.Message) > maxMessage {
		c.Message = strings.ToValidUTF8(c.Message[:maxMessage-3], "") + "..."
	}
	return c
}

func foreignMessage(foreign []Foreign) string {
	parts := make([]string, 0, len(foreign))
	for _, f := range foreign {
		parts = append(parts, f.Kind+" "+f.Name+" is not ours and is left alone; to remove it: "+f.Command)
	}
	return strings.Join(parts, "; ")
}

// working is the reason of a Service that is served.
func (p *planner) working() (reason, message string) {
	backing, named, ready, matched := 0, 0, false, false
	var stale, serving []string
	for _, c := range p.parts {
		backing += len(c.backing)
		matched = matched || len(c.taken) > 0
		if c.readBack && len(c.taken) > 0 {
			backing++ // of something it is
		}
		for _, r := range c.refused {
			if r.Reason == NoMatchingPort {
				named += r.Count
			}
		}
		if c.stale || c.withdrawn {
			stale = append(stale, c.Name)
		}
		if c.state == StateServing && c.published > 0 {
			serving = append(serving, c.Name)
			ready = ready || c.publishedReady
		}
	}
	message = "served by " + strings.Join(serving, ", ")
	switch {
	case backing == 0:
		reason, message = ReasonNoBackingServices, "no Service matches "+p.applied
	case !matched && named > 0:
		reason, message = ReasonNoMatchingPort, "no port of the backing services has the name and protocol of a port of this Service"
	case !ready:
		reason, message = ReasonNoReadyEndpoints, "no endpoint is ready"
	case len(stale) > 0:
		reason = ReasonPartlyStale
	default:
		reason = ReasonInSync
	}
	if len(stale) > 0 {
		message += "; out of contact: " + strings.Join(stale, ", ")
	}
	if problems := p.result.Report.Problems; len(problems) > 0 {
		message += "; " + strings.Join(problems, "; ")
	}
	return reason, message
}
