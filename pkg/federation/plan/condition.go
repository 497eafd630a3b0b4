package plan

import "github.com/overland-net/overland/pkg/model"

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
