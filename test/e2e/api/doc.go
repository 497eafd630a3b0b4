// Package api tests the API types and the manifests against a real API server:
// etcd and kube-apiserver alone, in a network namespace of their own. It has
// tests only, and they may import everything.
package api
