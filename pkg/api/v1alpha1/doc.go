// Package v1alpha1 is the API group overland.dev/v1alpha1: the objects that
// people write to link clusters. The schema in manifests/base/crds and the deep
// copies are generated from it by `make generate`.
//
// The oldest local API server is 1.30, which takes in a new CRD only those rules
// of CEL that 1.29 knew. That one had no functions for address ranges: they are
// checked by format and pattern, and the rest of it by Validate.
//
// It may import k8s.io/apimachinery and nothing of this repository.
//
// +kubebuilder:object:generate=true
// +groupName=overland.dev
package v1alpha1
