// Package client is a typed client of an API server for RemoteClusters.
//
// It may import k8s.io/apimachinery, k8s.io/client-go and, of this repository,
// pkg/api/v1alpha1.
package client
