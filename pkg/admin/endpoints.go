package admin

import (
	"cmp"
	"errors"
	"iter"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/selector"
)

// list is an api.EndpointList whose items are made when they are written.
type list struct {
	request
	head    api.EndpointList // Items is empty, and not nil
	entries []*index.Entry   // sorted
}

// endpoints lists those that pass all filters.
func endpoints(r request) (*list, error) {
	if err := r.parameters(api.ParamCluster, api.ParamNamespace, api.ParamLabelSelector, api.ParamKind); err != nil {
		return nil, err
	}
	kind, err := parseKind(r.query.Get(api.ParamKind))
	if err != nil {
		return nil, err
	}
	matches, err := parseLabelSelector(r.query.Get(api.ParamLabelSelector))
	if err != nil {
		return nil, err
	}
	if !r.known {
		return nil, starting()
	}
	cluster := r.query.Get(api.ParamCluster)
	if err := r.checkCluster(cluster); err != nil {
		return nil, err
	}
	namespace := r.query.Get(api.ParamNamespace)
	var found []*index.Entry
	for e := range candidates(r.snapshot.View, cluster) {
		if kind != 0 && e.Key.Kind != kind || namespace != "" && e.Key.Namespace != namespace {
			continue
		}
		if matches != nil {
			s := r.snapshot.View.Subject(e)
			if !matches.Matches(subjectLabels{&s}) {
				continue
			}
		}
		found = append(found, e)
	}
	return r.list(found, cluster), nil
}

// evaluate lists what a federation expression selects.
func evaluate(r request) (*list, error) {
	if err := r.parameters(api.ParamExpression); err != nil {
		return nil, err
	}
	if !r.query.Has(api.ParamExpression) {
		return nil, invalid("parameter %q is missing: expected an expression such as app == 'redis' && overland.dev/cluster == 'canada'", api.ParamExpression)
	}
	parsed, err := selector.Parse(r.query.Get(api.ParamExpression))
	if err != nil {
		return nil, syntaxError(err)
	}
	matcher := parsed.Compile()
	if err := checkKeys(matcher.Keys()); err != nil {
		return nil, err
	}
	if !matcher.Mentions(model.KeyKind) {
		// Nodes are selected only by who asks for them (semantics 2.6).
		matcher = selector.And(parsed, selector.Eq(model.KeyKind, model.KindPod.String())).Compile()
	}
	if !r.known {
		return nil, starting()
	}
	l := r.list(slices.Collect(r.snapshot.View.Select(matcher)), "")
	l.head.Expression = parsed.String()
	return l, nil
}

// details tells all about one pod: of the local cluster, unless another is named.
func details(r request) (*api.EndpointDetails, error) {
	if err := r.parameters(api.ParamCluster); err != nil {
		return nil, err
	}
	if !r.known {
		return nil, starting()
	}
	cluster := r.query.Get(api.ParamCluster)
	if err := r.checkCluster(cluster); err != nil {
		return nil, err
	}
	if cluster == "" {
		cluster = r.snapshot.Self.Cluster
	}
	v := r.snapshot.View
	e, ok := v.Endpoint(model.PodKey(cluster, r.namespace, r.name))
	if !ok {
		return nil, notFound("no endpoint %s/%s in cluster %s: there is no such pod, or it has no address yet, has finished, or uses its node's network",
			r.namespace, r.name, cluster)
	}
	s := v.Subject(e)
	_, known := v.Namespace(model.NamespaceKey(cluster, r.namespace))
	return &api.EndpointDetails{
		Header:          r.header(api.KindEndpointDetails, cluster),
		Endpoint:        r.endpoint(e),
		NamespaceLabels: s.Namespace.Map(),
		ClusterLabels:   s.Cluster.Map(),
		NamespaceKnown:  known,
		Keys:            keys(&s),
		Enforcement:     r.enforcement(e),
	}, nil
}

// keys is what an expression can see of an endpoint.
func keys(s *selector.Subject) map[string]string {
	all := make(map[string]string)
	put := func(prefix string, set model.Labels) {
		for k, v := range set.All() {
			all[prefix+k] = v
		}
	}
	put("", s.Labels)
	put(model.PrefixNamespace, s.Namespace)
	put(model.PrefixCluster, s.Cluster)
	for _, k := range []string{
		model.KeyCluster, model.KeyKind, model.KeyNamespace, model.KeyServiceAccount,
		model.PrefixNamespace + model.KeyNamespaceName,
	} {
		if v, ok := s.Get(k); ok {
			all[k] = v
		}
	}
	return all
}

func candidates(v index.View, cluster string) iter.Seq[*index.Entry] {
	if cluster == "" {
		return v.Endpoints()
	}
	return func(yield func(*index.Entry) bool) {
		for _, kind := range []model.Kind{model.KindPod, model.KindNode} {
			for k := range v.Keys(cluster, kind) {
				if e, ok := v.Endpoint(k); ok && !yield(e) {
					return
				}
			}
		}
	}
}

// list sorts what was found, of one cluster or of all.
func (r request) list(found []*index.Entry, cluster string) *list {
	rank := make(map[string]int, len(r.snapshot.Clusters))
	for i, c := range r.snapshot.Clusters {
		rank[c.Name] = i - len(r.snapshot.Clusters) // before those that are not there
	}
	slices.SortFunc(found, func(a, b *index.Entry) int {
		return cmp.Or(
			cmp.Compare(rank[a.Key.Cluster], rank[b.Key.Cluster]),
			strings.Compare(a.Key.Cluster, b.Key.Cluster),
			cmp.Compare(a.Key.Kind, b.Key.Kind),
			strings.Compare(a.Key.Namespace, b.Key.Namespace),
			strings.Compare(a.Key.Name, b.Key.Name),
		)
	})
	head := api.EndpointList{Header: r.header(api.KindEndpointList, cluster), Items: []api.Endpoint{}}
	return &list{request: r, head: head, entries: found}
}

func (r request) endpoint(e *index.Entry) api.Endpoint {
	a := api.Endpoint{
		Kind: e.Key.Kind.String(), Cluster: e.Key.Cluster, Local: e.Key.Cluster == r.snapshot.Self.Cluster,
		Namespace: e.Key.Namespace, Name: e.Key.Name, UID: e.UID.String(), Node: e.Node,
		Addresses: []string{}, Labels: e.Labels.Map(), ServiceAccount: e.ServiceAccount,
		Terminating: e.Terminating,
	}
	for _, address := range e.Addresses {
		if e.Owns(address) {
			a.Addresses = append(a.Addresses, address.String())
		}
	}
	for _, refusal := range e.Refused {
		refused := api.RefusedAddress{Address: refusal.Address.String(), Reason: string(refusal.Reason)}
		if refusal.By != (model.Key{}) {
			by := reference(refusal.By)
			refused.By = &by
		}
		a.Refused = append(a.Refused, refused)
	}
	for _, p := range e.Ports {
		a.Ports = append(a.Ports, api.Port{Name: p.Name, Protocol: p.Protocol.String(), Port: p.Port})
	}
	if e.Created != 0 {
		a.Created, a.AgeSeconds = r.moment(time.Unix(e.Created, 0))
	}
	return a
}

// checkCluster refuses a cluster that is not known: a misspelt one has no
// endpoints, which would look like an answer.
func (r request) checkCluster(name string) error {
	if name == "" || name == r.snapshot.Self.Cluster {
		return nil
	}
	var known []string
	for _, c := range r.snapshot.Clusters {
		if c.Name == name {
			return nil
		}
		known = append(known, c.Name)
	}
	return notFound("no cluster %q is linked: expected one of %s", name, strings.Join(known, ", "))
}

func parseKind(name string) (model.Kind, error) {
	switch name {
	case "":
		return 0, nil
	case api.KindPod:
		return model.KindPod, nil
	case api.KindNode:
		return model.KindNode, nil
	}
	return 0, invalid("kind %q: expected %s or %s", name, api.KindPod, api.KindNode)
}

// parseLabelSelector reads the syntax of kubectl -l; nil if there is none.
func parseLabelSelector(text string) (labels.Selector, error) {
	if text == "" {
		return nil, nil
	}
	parsed, err := labels.Parse(text)
	if err != nil {
		return nil, invalid("label selector %q: %v: expected KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY or !KEY, separated by commas", text, err)
	}
	requirements, _ := parsed.Requirements()
	var mentioned []string
	for _, requirement := range requirements {
		mentioned = append(mentioned, requirement.Key())
	}
	return parsed, checkKeys(mentioned)
}

// checkKeys refuses reserved keys that do not exist. In a policy they match
// nothing and are a Problem (semantics 2.2); a person is told at once.
func checkKeys(mentioned []string) error {
	for _, k := range mentioned {
		switch k {
		case model.KeyCluster, model.KeyKind, model.KeyServiceAccount, model.KeyNamespace:
			continue
		}
		known := strings.HasPrefix(k, model.PrefixCluster) || strings.HasPrefix(k, model.PrefixNamespace)
		if model.ReservedKey(k) && !known {
			return invalid("unknown reserved key %s: expected %s, %s, %s, %s, %sKEY or %sKEY", k,
				model.KeyCluster, model.KeyNamespace, model.KeyServiceAccount, model.KeyKind, model.PrefixCluster, model.PrefixNamespace)
		}
	}
	return nil
}

// syntaxError keeps the place of the error.
func syntaxError(err error) error {
	f := invalid("expression: %v", err)
	if at := (*selector.SyntaxError)(nil); errors.As(err, &at) {
		f.body.Offset, f.body.Expected = &at.Offset, at.Expected
	}
	return f
}

// subjectLabels is an endpoint as apimachinery's selectors want it.
type subjectLabels struct{ subject *selector.Subject }

// Has tells whether there is a label.
func (l subjectLabels) Has(key string) bool {
	_, ok := l.subject.Get(key)
	return ok
}

// Get is a label's value, empty if there is none.
func (l subjectLabels) Get(key string) string {
	v, _ := l.subject.Get(key)
	return v
}

// Lookup is a label's value, and whether there is one.
func (l subjectLabels) Lookup(key string) (string, bool) { return l.subject.Get(key) }
