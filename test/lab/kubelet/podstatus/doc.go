// Package podstatus computes the status of a pod, as its API object shows it,
// from its specification, the status before and what runs. It is pure: the
// present time is given. It may import test/lab/runtime (for its plain records),
// test/lab/kubelet/podspec, test/lab/kubelet/podplan and test/lab/kubelet/probe.
package podstatus
