package policy

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// Peer is the selector of a peer of the policy, over all endpoints of all
// clusters (semantics 2.2 to 2.6). ns is the policy's namespace, nil if it is
// not known. field is where the peer stands, such as spec.ingress[0].from[1].
// An ipBlock has no selector: ok is false. What cannot be understood matches
// nothing, and is a Problem.
func (c Config) Peer(p *model.Policy, ns *model.Namespace, peer model.PolicyPeer, field string) (s selector.Selector, ok bool, problems []model.Problem) {
	mesh, problems := c.MeshScope(p, ns)
	s, ok, more := c.peer(p, mesh, peer)
	return s, ok, append(problems, within(more, field)...)
}

// within puts the field that holds all others before them. That it comes last
// saves making the names of fields that have no Problem.
func within(problems []model.Problem, field string) []model.Problem {
	for i := range problems {
		problems[i].Message = field + problems[i].Message
	}
	return problems
}

// peer is Peer with the scope resolved; problems begin with the field within the peer.
func (c Config) peer(p *model.Policy, mesh bool, peer model.PolicyPeer) (s selector.Selector, ok bool, problems []model.Problem) {
	if peer.Block.IsValid() {
		return selector.Selector{}, false, nil
	}
	t := newTranslation(p.Key, peer.Pods, peer.Namespaces)
	switch {
	case peer.Pods == nil && peer.Namespaces == nil:
		t.refuse("", "the peer is empty: expected podSelector, namespaceSelector or ipBlock")
	case peer.Pods != nil && requiresNode(*peer.Pods):
		t.nodes(peer)
	default:
		t.pods(p, peer)
	}
	if !mesh && !t.clusterMentioned {
		t.require(model.KeyCluster, c.Cluster)
	}
	return t.selector(), true, t.problems
}

// Subjects is the selector of the pods in its own namespace that the policy
// applies to (semantics 2.5), to be evaluated on local pods.
func (c Config) Subjects(p *model.Policy) (selector.Selector, []model.Problem) {
	t := newTranslation(p.Key, &p.Pods)
	t.add(p.Pods, ownPods, "")
	if slices.ContainsFunc(p.Pods, func(r model.Requirement) bool { return r.Key == model.KeyKind }) {
		// It is always Pod: this makes it seen what no pod can fulfil.
		t.require(model.KeyKind, model.KindPod.String())
	}
	return t.selector(), within(t.problems, "spec.podSelector")
}

// translation gathers the requirements of one selector.
type translation struct {
	object           model.Key
	requirements     model.LabelSelector
	clusterMentioned bool
	never            bool // something has been refused
	problems         []model.Problem
}

// newTranslation has room for the requirements of some selectors and its own.
func newTranslation(object model.Key, selectors ...*model.LabelSelector) translation {
	const own = 4 // at most: kind, cluster, namespace, a known namespace
	room := own
	for _, s := range selectors {
		if s != nil {
			room += len(*s)
		}
	}
	return translation{object: object, requirements: make(model.LabelSelector, 0, room)}
}

// pods is a peer of pods: those of the policy's own namespace, unless a
// namespaceSelector says of which (semantics 2.4).
func (t *translation) pods(p *model.Policy, peer model.PolicyPeer) {
	t.require(model.KeyKind, model.KindPod.String())
	if peer.Pods != nil {
		t.add(*peer.Pods, peerPods, ".podSelector")
		for _, r := range *peer.Pods {
			if r.Key == model.KeyKind && nodeFulfils(r) {
				t.problem(".podSelector", fmt.Sprintf(
					"%s: nodes would fulfil this, but it means pods only: expected exactly Node, for nodes, or nothing that they fulfil", model.KeyKind))
			}
		}
	}
	if peer.Namespaces == nil {
		t.require(model.KeyNamespace, p.Key.Namespace)
		return
	}
	t.add(*peer.Namespaces, peerNamespaces, ".namespaceSelector")
	if slices.ContainsFunc(*peer.Namespaces, namespaceMustLack) {
		// A Namespace that is not known lacks nothing: it must be seen first.
		t.requirements = append(t.requirements, model.Requirement{
			Key: model.PrefixNamespace + model.KeyNamespaceName, Operator: model.Exists,
		})
	}
}

// namespaceMustLack tells the requirements that a Namespace without labels fulfils.
func namespaceMustLack(r model.Requirement) bool {
	return !model.ReservedLabel(r.Key) && r.Key != model.KeyNamespaceName &&
		(r.Operator == model.NotIn || r.Operator == model.DoesNotExist)
}

// nodes is a peer of nodes; namespaces play no part (semantics 2.6).
func (t *translation) nodes(peer model.PolicyPeer) {
	t.add(*peer.Pods, peerNodes, ".podSelector")
	if peer.Namespaces != nil {
		t.refuse(".namespaceSelector", fmt.Sprintf("nodes have no namespace: expected none beside %s: Node", model.KeyKind))
	}
}

// requiresNode tells whether the kind is required to be exactly Node.
func requiresNode(s model.LabelSelector) bool {
	return slices.ContainsFunc(s, func(r model.Requirement) bool {
		return r.Key == model.KeyKind && r.Operator == model.In && len(r.Values) > 0 &&
			!slices.ContainsFunc(r.Values, func(v string) bool { return v != model.KindNode.String() })
	})
}

// nodeFulfils evaluates a requirement on the kind.
func nodeFulfils(r model.Requirement) bool {
	node := slices.Contains(r.Values, model.KindNode.String())
	switch r.Operator {
	case model.Exists:
		return true
	case model.In:
		return node
	case model.NotIn:
		return !node && len(r.Values) > 0
	}
	return false
}

func (t *translation) require(key, value string) {
	t.requirements = append(t.requirements, model.Requirement{Key: key, Operator: model.In, Values: []string{value}})
}

// add takes the requirements of a selector that stands at a place.
func (t *translation) add(s model.LabelSelector, at place, field string) {
	for _, r := range s {
		key, known := at.translate(r.Key)
		switch {
		case !known:
			t.refuse(field, fmt.Sprintf("the reserved key %s matches nothing here: expected %s", printable(r.Key), at.expected()))
		case !well(r):
			t.refuse(field, fmt.Sprintf("the requirement on %s matches nothing: expected operator In or NotIn with values, Exists or DoesNotExist", printable(r.Key)))
		case r.Operator == model.DoesNotExist && alwaysThere(key):
			t.refuse(field, fmt.Sprintf("%s is on everything: expected another operator than DoesNotExist", printable(r.Key)))
		}
		t.clusterMentioned = t.clusterMentioned || clusterKey(r.Key)
		t.requirements = append(t.requirements, model.Requirement{Key: key, Operator: r.Operator, Values: r.Values})
	}
}

// alwaysThere tells the keys that all that a peer ranges over has.
func alwaysThere(key string) bool {
	return key == model.KeyCluster || key == model.KeyKind || key == model.KeyNamespace
}

// well tells the requirements that API servers let pass, but for what is in
// their keys and values.
func well(r model.Requirement) bool {
	switch r.Operator {
	case model.In, model.NotIn:
		return len(r.Values) > 0
	case model.Exists, model.DoesNotExist:
		return true
	}
	return false
}

func (t *translation) problem(field, message string) {
	t.problems = append(t.problems, model.Problem{Kind: model.ProblemPolicy, Object: t.object, Message: field + ": " + message})
}

func (t *translation) refuse(field, message string) {
	t.never = true
	t.problem(field, message)
}

// selector is all requirements together. That they cannot all hold is a Problem
// (semantics 2.12), unless it is known why.
func (t *translation) selector() selector.Selector {
	if t.never {
		return selector.Never()
	}
	s := selector.FromLabelSelector(t.requirements, nil)
	if s == selector.Never() && len(t.problems) == 0 {
		t.problem("", "matches nothing: expected requirements that can all be fulfilled at once")
	}
	return s
}

// printable is a key as people may see it: an object's author must not be able
// to write lines of a log.
func printable(key string) string {
	const longest = 100
	if len(key) > longest {
		key = key[:longest] + "..."
	}
	return strconv.Quote(key)
}
