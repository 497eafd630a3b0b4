// Package podspec turns a pod's specification into what a container runtime is
// told: environment, arguments, hostname, /etc/hosts, /etc/resolv.conf, security
// settings, and which container restarts after which exit. It is pure: no
// clock, no goroutine, no API. It may import test/lab/runtime (for its plain
// configuration types) and nothing else of this repository.
package podspec
