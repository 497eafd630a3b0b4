package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The defaults of a RemoteCluster, which the API server fills in.
const (
	DefaultSecretKey  = "kubeconfig"
	DefaultSpareAfter = time.Minute
	DefaultEndpoints  = 250_000
	DefaultLabelBytes = 16 << 10
)

// Default fills in what the API server would have: for objects that were made
// in Go, or stored before a field had its default.
func (r *RemoteCluster) Default() {
	spec := &r.Spec
	if spec.Credentials.SecretRef.Key == "" {
		spec.Credentials.SecretRef.Key = DefaultSecretKey
	}
	if spec.Services.SpareAfter == nil {
		spec.Services.SpareAfter = &metav1.Duration{Duration: DefaultSpareAfter}
	}
	if spec.Limits.Endpoints == 0 {
		spec.Limits.Endpoints = DefaultEndpoints
	}
	if spec.Limits.LabelBytes == 0 {
		spec.Limits.LabelBytes = DefaultLabelBytes
	}
}

// LabelMap is spec.clusterLabels as plain strings; nil if there are none.
func (s *RemoteClusterSpec) LabelMap() map[string]string {
	if len(s.ClusterLabels) == 0 {
		return nil
	}
	labels := make(map[string]string, len(s.ClusterLabels))
	for key, value := range s.ClusterLabels {
		labels[key] = string(value)
	}
	return labels
}
