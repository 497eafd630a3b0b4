package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The names of the group and of its one resource.
const (
	Group    = "overland.dev"
	Version  = "v1alpha1"
	Kind     = "RemoteCluster"
	Resource = "remoteclusters"
)

// GroupVersion is the group and version of the types of this package.
func GroupVersion() schema.GroupVersion { return schema.GroupVersion{Group: Group, Version: Version} }

// GroupVersionResource is that of RemoteClusters.
func GroupVersionResource() schema.GroupVersionResource { return GroupVersion().WithResource(Resource) }

// GroupVersionKind is that of a RemoteCluster.
func GroupVersionKind() schema.GroupVersionKind { return GroupVersion().WithKind(Kind) }

// AddToScheme makes a scheme know the types of this package, and the types that
// requests for them have. It never fails; the error is for runtime's
// SchemeBuilder.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(), &RemoteCluster{}, &RemoteClusterList{})
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}
