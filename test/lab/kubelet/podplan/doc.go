// Package podplan decides what to do next for a pod from what it should be and
// what runs: make a sandbox, start or kill which containers, or end the pod. It
// is pure. It may import test/lab/runtime (for its plain records),
// test/lab/kubelet/podspec and test/lab/kubelet/probe.
package podplan
