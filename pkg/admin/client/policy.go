package client

import (
	"context"
	"net/url"

	"github.com/overland-net/overland/pkg/admin/api"
)

// PolicyFilter says which policies are asked for; what is empty filters nothing.
type PolicyFilter struct {
	Namespace, Name string
	All             bool // also those that select no pod of the node
}

// Policies lists those that pass the filter.
func (c *Client) Policies(ctx context.Context, f PolicyFilter) (*api.PolicyList, error) {
	query := url.Values{}
	set(query, api.ParamNamespace, f.Namespace)
	set(query, api.ParamName, f.Name)
	if f.All {
		query.Set(api.ParamAll, "true")
	}
	return get[api.PolicyList](ctx, c, api.PathPolicies, query)
}

// Policy is one policy, rule by rule.
func (c *Client) Policy(ctx context.Context, namespace, name string) (*api.PolicyDetails, error) {
	return get[api.PolicyDetails](ctx, c, api.PathPolicies+"/"+url.PathEscape(namespace)+"/"+url.PathEscape(name), nil)
}

// Explain is whether a connection passes the node, and why.
func (c *Client) Explain(ctx context.Context, source, destination, port string) (*api.Explanation, error) {
	return get[api.Explanation](ctx, c, api.PathExplain, url.Values{
		api.ParamSource: {source}, api.ParamDestination: {destination}, api.ParamPort: {port},
	})
}
