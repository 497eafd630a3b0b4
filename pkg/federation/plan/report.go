package plan

import "github.com/overland-net/overland/pkg/model"

// Report is a plan for people. It is bounded, whatever a cluster says.
type Report struct {
	Service model.Key
	// Expression is the canonical one that is evaluated; empty if none is.
	Expression string
	// Problems are what is wrong with the Service's annotations, in words.
	Problems []string
	// Foreign are objects that stand in the way, each with the command that
	// removes it; at most maxForeign.
	Foreign  []Foreign
	Clusters []ClusterReport // as in World
}

// Foreign is an object of somebody else in a federated Service's place.
type Foreign struct {
	Kind, Name string
	Command    string // that removes it
}

// State is what part a cluster has in a federated Service.
type State uint8

// The values of a State.
const (
	// StateServing: its endpoints are published.
	StateServing State = iota + 1
	// StatePreferredElsewhere: they are not, by the preference.
	StatePreferredElsewhere
	// StateUnlisted: they are not, the preference does not list it.
	StateUnlisted
	// StateSpare: they are not, it is out of contact and the others suffice.
	StateSpare
	// StateWithdrawn: they are not, it is out of contact for too long.
	StateWithdrawn
)

// String is the name of the state.
func (s State) String() string {
	switch s {
	case StateServing:
		return "Serving"
	case StatePreferredElsewhere:
		return "PreferredElsewhere"
	case StateUnlisted:
		return "Unlisted"
	case StateSpare:
		return "Spare"
	case StateWithdrawn:
		return "Withdrawn"
	}
	return "unknown"
}

// ClusterReport is a cluster's part in a federated Service.
type ClusterReport struct {
	Name  string
	State State
	// Stale: out of contact for so long that its endpoints are spare, if they
	// are published at all. Partial: not listed by this leader.
	Stale, Partial bool
	// Backing are the names of its backing services, at most maxNamed of the
	// BackingCount; none of a partial cluster.
	Backing      []string
	BackingCount int
	// Taken are its endpoints that are fit to be published, Ready those that are
	// ready, Published those that are.
	Taken, Ready, Published int
	Refused                 []Refused // by reason
}

// Reason is why an address of a backing service is not taken, or not published.
type Reason string

// The reasons. Those of model.RefusalReason are others.
const (
	NoMatchingPort  Reason = "NoMatchingPort"
	InvalidAddress  Reason = "InvalidAddress"
	InvalidPort     Reason = "InvalidPort"
	InvalidHostname Reason = "InvalidHostname"
	InvalidZone     Reason = "InvalidZone"
	InvalidNode     Reason = "InvalidNode"
	InvalidTarget   Reason = "InvalidTarget"
	// NotServedFamily: not of the federated Service's ipFamilies.
	NotServedFamily Reason = "NotServedFamily"
	// NotOwned: of no pod of that cluster and namespace, and no node of it.
	NotOwned Reason = "NotOwned"
	// OwnedElsewhere: the address is another cluster's.
	OwnedElsewhere Reason = "OwnedElsewhere"
	// Shadowed: equal to a local Service's address (semantics 5.3).
	Shadowed Reason = "Shadowed"
	// Duplicate: published of another backing service already.
	Duplicate Reason = "Duplicate"
	// NotReady: while none of the listed clusters suffices, only ready ones are.
	NotReady Reason = "NotReady"
	// TooMany: past a limit.
	TooMany Reason = "TooMany"
)

// Refused are the addresses that are not taken, or not published, for a reason.
type Refused struct {
	Reason   Reason
	Count    int
	Examples []string // at most maxExamples
}

// reportParts says what became of each cluster's endpoints.
func (p *planner) reportParts(out *output) {
	for _, o := range out.published {
		o.part.published++
		o.part.publishedReady = o.part.publishedReady || o.ready
	}
	for _, c := range p.parts {
		c.refused.all(out.left[c])
		r := ClusterReport{
			Name: c.Name, State: c.state, Stale: c.stale, Partial: c.readBack,
			BackingCount: len(c.backing), Taken: len(c.taken), Published: c.published, Refused: c.refused.sorted(),
		}
		for _, s := range c.backing[:min(len(c.backing), maxNamed)] {
			r.Backing = append(r.Backing, s.Key.Name)
		}
		for _, e := range c.taken {
			if e.ready {
				r.Ready++
			}
		}
		p.result.Report.Clusters = append(p.result.Report.Clusters, r)
	}
}
