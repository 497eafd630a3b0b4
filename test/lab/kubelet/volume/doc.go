// Package volume makes the folders that a pod's volumes are on its node, keeps
// those that mirror API objects up to date, and says what to mount where in a
// container. It may import test/lab/runtime (for its plain configuration types)
// and test/lab/kubelet/podspec.
package volume
