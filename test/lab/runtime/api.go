// Package runtime is the container runtime of the lab's nodes, in the place of
// containerd and runc: pod sandboxes with real namespaces and the node's real
// CNI chain, and containers as processes with a root, a user, capabilities and
// a log of their own, which outlive the process that started them.
//
// It may import test/lab/ns and test/lab/rootfs of this repository.
package runtime

import (
	"errors"
	"io"
	"net/netip"
	"time"
)

// ErrImage is in the chain of errors for unknown images; the text lists what
// exists, or names the Debian package that is missing.
var ErrImage = errors.New("image not known")

// ErrNetwork is in the chain of errors of a sandbox whose network could not be
// made: there is no CNI configuration, or a plugin failed. The sandbox is not
// there; try again later.
var ErrNetwork = errors.New("pod network not ready")

// ErrNotFound is in the chain of errors for unknown sandboxes and containers.
var ErrNotFound = errors.New("not found")

// Config says where on the node the runtime finds and keeps things. All paths
// are absolute and in the node's root.
type Config struct {
	Dir         string   // state; on a tmpfs, so that it is gone at a node's reboot: /run/lab/runtime
	LogDir      string   // /var/log/pods
	CNIConfDir  string   // /etc/cni/net.d
	CNIBinDirs  []string // /opt/cni/bin
	CNICacheDir string   // /var/lib/cni
	NetNSDir    string   // /run/netns
	Programs    string   // folder of the lab's programs: /opt/lab/bin
	Self        string   // the multi-call lab binary, which has the roles ShimMain, InitMain and ExecMain
}

// SandboxConfig describes a pod's sandbox.
type SandboxConfig struct {
	Namespace, Name, UID string
	Hostname             string // not used on the host network
	ResolvConf           string // text of /etc/resolv.conf
	HostNetwork, HostPID bool
	Sysctls              map[string]string // namespaced ones only
	PortMappings         []PortMapping     // hostPorts, given to CNI as the capability portMappings
}

// PortMapping is one hostPort of a pod.
type PortMapping struct {
	HostPort, ContainerPort int32
	Protocol, HostIP        string
}

// Sandbox is what is known of a pod's sandbox.
type Sandbox struct {
	ID                   string // 64 hex digits, as containerd's
	Namespace, Name, UID string
	NetNS                string       // path, NetNSDir/cni-<uuid>; empty on the host network
	IPs                  []netip.Addr // from the CNI result, IPv4 first; empty on the host network
	CreatedAt            time.Time
	Ready                bool // false once it was stopped or its network namespace vanished
}

// Mount is one volume of a container.
type Mount struct {
	Source   string // a path in the node's root
	Target   string // a path in the container
	ReadOnly bool
}

// Security is who a container's processes are and what they may do.
type Security struct {
	User, Group        *int64 // nil: root
	SupplementalGroups []int64
	Privileged         bool
	ReadOnlyRoot       bool
	NoNewPrivileges    bool
	AddCapabilities    []string // Kubernetes' names, without CAP_; "ALL" works
	DropCapabilities   []string
}

// ContainerConfig describes a container.
type ContainerConfig struct {
	Name                   string
	Attempt                int // restart count; names the log file
	Image                  string
	Command, Args          []string // as in the pod, expanded; empty: the image's
	Env                    []string // KEY=value
	WorkingDir             string
	Mounts                 []Mount
	Files                  map[string]string // text by path in the container, e.g. /etc/hosts
	Security               Security
	Stdin, TTY             bool
	StdinOnce              bool   // standard input ends with the first client that attached
	TerminationMessagePath string // default /dev/termination-log
}

// State of a container.
type State string

// The states of a container: it has one of them from the moment it is known.
const (
	Running State = "running"
	Exited  State = "exited"
)

// ReasonStartError is the Reason of a container whose command could not be
// executed.
const ReasonStartError = "StartError"

// Container is what is known of a container.
type Container struct {
	ID, SandboxID, Name, Image, ImageID string
	Attempt                             int
	State                               State
	PID                                 int // in the node's PID namespace
	ExitCode                            int // 128+signal when killed by one
	Signal                              int
	StartedAt, FinishedAt               time.Time
	Reason                              string // ReasonStartError, with the cause in Message, or empty
	Message                             string // the termination message file's last 4096 bytes
	LogPath                             string // CRI log format: "<RFC3339Nano> stdout F text"
}

// ExecIO connects a command run in a container. A nil reader is empty, a nil
// writer discards. With TTY everything comes out of Stdout.
type ExecIO struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	Resize         <-chan TermSize
}

// TermSize is the size of a terminal in characters.
type TermSize struct{ Width, Height uint16 }
