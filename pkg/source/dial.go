package source

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/overland-net/overland/pkg/model"
)

// The rate of requests to one API server. A page has 500 objects: this is 10,000
// pods a second.
const (
	requestRate  = 20
	requestBurst = 50
)

// The oldest Kubernetes that is read (semantics 5.1).
const (
	oldestMajor = 1
	oldestMinor = 25
)

// clients read one API server, over one connection.
type clients struct {
	*wire
	core, networking, discovery rest.Interface
}

// dial prepares a connection; nothing is sent yet.
func dial(c *config, noted func()) (*clients, error) {
	w, err := newWire(c.connect, c.timing, noted)
	if err != nil {
		return nil, err
	}
	convert := converter{cluster: c.name, names: &interner{}, decoder: decoder{local: c.local, node: c.node, labelBytes: c.labelBytes}}
	limiter := flowcontrol.NewTokenBucketRateLimiter(requestRate, requestBurst)
	out := &clients{wire: w}
	for _, g := range []struct {
		path   string
		group  schema.GroupVersion
		client *rest.Interface
	}{
		{"/api", schema.GroupVersion{Version: "v1"}, &out.core},
		{"/apis", schema.GroupVersion{Group: "networking.k8s.io", Version: "v1"}, &out.networking},
		{"/apis", schema.GroupVersion{Group: "discovery.k8s.io", Version: "v1"}, &out.discovery},
	} {
		cfg := rest.CopyConfig(c.connect)
		cfg.GroupVersion, cfg.APIPath = &g.group, g.path
		cfg.NegotiatedSerializer = newNegotiated(convert)
		cfg.ContentType = runtime.ContentTypeProtobuf
		// JSON is for errors of what is in front of an API server.
		cfg.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
		cfg.RateLimiter, cfg.WarningHandler, cfg.WarningHandlerWithContext = limiter, rest.NoWarnings{}, nil
		client, err := rest.RESTClientForConfigAndClient(cfg, w.client)
		if err != nil {
			return nil, fmt.Errorf("make a client for %s: %w", serverURL(c.connect.Host), err)
		}
		*g.client = client
	}
	return out, nil
}

// version asks for the server's version: the cheapest question, which every
// account may ask, and which fails for one that is not accepted.
func (c *clients) version(ctx context.Context) (string, error) {
	data, err := c.core.Get().AbsPath("/version").SetHeader("Accept", runtime.ContentTypeJSON).MaxRetries(0).Do(ctx).Raw()
	if err != nil {
		return "", fmt.Errorf("ask for the version: %w", err)
	}
	var v struct {
		Major      string `json:"major"`
		Minor      string `json:"minor"`
		GitVersion string `json:"gitVersion"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return "", fmt.Errorf("read the version: %w", err)
	}
	major, majorOK := leadingNumber(v.Major)
	minor, minorOK := leadingNumber(v.Minor)
	if !majorOK || !minorOK {
		return "", fmt.Errorf("read the version: it says %q.%q", printable(v.Major, 20), printable(v.Minor, 20))
	}
	if major < oldestMajor || major == oldestMajor && minor < oldestMinor {
		return "", failure(model.ReasonVersionTooOld, "it runs Kubernetes %d.%d: upgrade it to %d.%d or later", major, minor, oldestMajor, oldestMinor)
	}
	return printable(v.GitVersion, 64), nil
}

// leadingNumber reads 27 and 27+ alike.
func leadingNumber(s string) (int, bool) {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, err := strconv.Atoi(s[:end])
	return n, err == nil
}

// namespace reads one Namespace; nil if there is none or it may not be read.
func (c *clients) namespace(ctx context.Context, name string) (*model.Namespace, error) {
	answer, err := c.core.Get().Resource("namespaces").Name(name).MaxRetries(0).Do(ctx).Get()
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // as the comment says
	}
	if err != nil {
		return nil, fmt.Errorf("get namespace %s: %w", name, err)
	}
	i, ok := answer.(*item)
	if !ok {
		return nil, fmt.Errorf("get namespace %s: %w", name, errNotAsked)
	}
	n, _ := i.fact.(*model.Namespace)
	if n == nil {
		return nil, nil //nolint:nilnil // refused: as good as not readable
	}
	if n.Key.Name != name {
		return nil, fmt.Errorf("get namespace %s: %w", name, errNotAsked)
	}
	return n, nil
}

// group is the client that serves a kind, and the kind's resource.
func (c *clients) group(kind model.Kind) (rest.Interface, string) {
	switch kind {
	case model.KindPod:
		return c.core, "pods"
	case model.KindNode:
		return c.core, "nodes"
	case model.KindNamespace:
		return c.core, "namespaces"
	case model.KindPolicy:
		return c.networking, "networkpolicies"
	case model.KindService:
		return c.core, "services"
	case model.KindEndpointSlice:
		return c.discovery, "endpointslices"
	case model.KindCluster:
	}
	return nil, ""
}
