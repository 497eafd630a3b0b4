package client

import (
	"context"
	"net/url"

	"github.com/overland-net/overland/pkg/admin/api"
)

// Services lists the federated Services, of one namespace unless that is empty.
func (c *Client) Services(ctx context.Context, namespace string) (*api.ServiceList, error) {
	query := url.Values{}
	set(query, api.ParamNamespace, namespace)
	return get[api.ServiceList](ctx, c, api.PathServices, query)
}

// Service is one federated Service.
func (c *Client) Service(ctx context.Context, namespace, name string) (*api.ServiceDetails, error) {
	return get[api.ServiceDetails](ctx, c, api.PathServices+"/"+url.PathEscape(namespace)+"/"+url.PathEscape(name), nil)
}
