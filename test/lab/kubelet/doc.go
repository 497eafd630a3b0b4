// Package kubelet is the kubelet of the lab's nodes: small, on the lab's own
// container runtime, but with the real one's behaviour towards the API server
// and the pods, so that the real controllers, scheduler and kubectl cannot tell.
//
// The pure parts are packages of their own below this one. It may import
// test/lab/runtime, test/lab/ns and test/lab/kubelet/... of this repository.
package kubelet
