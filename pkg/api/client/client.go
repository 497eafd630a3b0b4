package client

import (
	"context"
	"fmt"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/overland-net/overland/pkg/api/v1alpha1"
)

// Reader reads RemoteClusters.
type Reader interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*v1alpha1.RemoteCluster, error)
	List(ctx context.Context, opts metav1.ListOptions) (*v1alpha1.RemoteClusterList, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// Writer writes the spec of RemoteClusters.
type Writer interface {
	Create(ctx context.Context, r *v1alpha1.RemoteCluster, opts metav1.CreateOptions) (*v1alpha1.RemoteCluster, error)
	Update(ctx context.Context, r *v1alpha1.RemoteCluster, opts metav1.UpdateOptions) (*v1alpha1.RemoteCluster, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
}

// StatusWriter writes the status of RemoteClusters.
type StatusWriter interface {
	// UpdateStatus replaces the status; the server refuses it, with a conflict,
	// if the object is not as it was read.
	UpdateStatus(ctx context.Context, r *v1alpha1.RemoteCluster, opts metav1.UpdateOptions) (*v1alpha1.RemoteCluster, error)
	// Patch changes the object or, with "status" as subresource, its status.
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (*v1alpha1.RemoteCluster, error)
}

// RemoteClusters is a client for RemoteClusters. Its errors are those of the
// API server (k8s.io/apimachinery/pkg/api/errors), unwrapped. It is safe for
// concurrent use.
type RemoteClusters struct {
	*gentype.ClientWithList[*v1alpha1.RemoteCluster, *v1alpha1.RemoteClusterList]
}

var (
	_ Reader       = RemoteClusters{}
	_ Writer       = RemoteClusters{}
	_ StatusWriter = RemoteClusters{}
)

// New is a client that connects as config says, with an HTTP client of its own.
func New(config *rest.Config) (RemoteClusters, error) {
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return RemoteClusters{}, fmt.Errorf("make a client for RemoteClusters: %w", err)
	}
	return NewForClient(config, httpClient)
}

// NewForClient is a client that shares the connections of an HTTP client, which
// rest.HTTPClientFor(config) made.
func NewForClient(config *rest.Config, httpClient *http.Client) (RemoteClusters, error) {
	scheme, err := Scheme()
	if err != nil {
		return RemoteClusters{}, err
	}
	config = rest.CopyConfig(config)
	version := v1alpha1.GroupVersion()
	config.GroupVersion, config.APIPath = &version, "/apis"
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	// API servers have custom resources in JSON, whatever config asks for.
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	if config.UserAgent == "" {
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	client, err := rest.RESTClientForConfigAndClient(config, httpClient)
	if err != nil {
		return RemoteClusters{}, fmt.Errorf("make a client for RemoteClusters: %w", err)
	}
	return newRemoteClusters(client, scheme), nil
}

// Scheme knows RemoteClusters, and nothing else.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register the types of %s: %w", v1alpha1.GroupVersion(), err)
	}
	return scheme, nil
}

func newRemoteClusters(client rest.Interface, scheme *runtime.Scheme) RemoteClusters {
	return RemoteClusters{gentype.NewClientWithList(
		v1alpha1.Resource, client, runtime.NewParameterCodec(scheme), "",
		func() *v1alpha1.RemoteCluster { return &v1alpha1.RemoteCluster{} },
		func() *v1alpha1.RemoteClusterList { return &v1alpha1.RemoteClusterList{} },
	)}
}

// ListWatch is for a reflector or an informer of all RemoteClusters.
func ListWatch(r Reader) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			return r.List(ctx, opts)
		},
		WatchFuncWithContext: r.Watch,
	}
}
