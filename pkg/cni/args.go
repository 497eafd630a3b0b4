package cni

import (
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

// podArgs are the keys of CNI_ARGS that the kubelet's runtimes set. The library
// fills in the fields of their names.
type podArgs struct {
	types.CommonArgs
	//lint:ignore ST1003 the key's name
	K8S_POD_NAMESPACE types.UnmarshallableString
	//lint:ignore ST1003 the key's name
	K8S_POD_NAME types.UnmarshallableString
	//lint:ignore ST1003 the key's name
	K8S_POD_UID types.UnmarshallableString
	//lint:ignore ST1003 the key's name
	K8S_POD_INFRA_CONTAINER_ID types.UnmarshallableString
}

// pod is whose link it is.
type pod struct{ namespace, name, uid string }

func (p pod) String() string { return p.namespace + "/" + p.name }

// parseArgs reads CNI_ARGS. Names are checked here, since they go into messages
// and logs on both sides of the socket.
func parseArgs(text string) (pod, error) {
	var args podArgs
	if err := types.LoadArgs(text, &args); err != nil {
		return pod{}, badArgs("", clipped(err.Error()))
	}
	p := pod{namespace: string(args.K8S_POD_NAMESPACE), name: string(args.K8S_POD_NAME), uid: string(args.K8S_POD_UID)}
	switch {
	case p.namespace == "":
		return pod{}, badArgs("K8S_POD_NAMESPACE is missing: only pods of Kubernetes are served", "")
	case p.name == "":
		return pod{}, badArgs("K8S_POD_NAME is missing: only pods of Kubernetes are served", "")
	case !isLabel(p.namespace):
		return pod{}, badArgs("K8S_POD_NAMESPACE is not the name of a namespace", quoted(p.namespace))
	case !isSubdomain(p.name):
		return pod{}, badArgs("K8S_POD_NAME is not the name of a pod", quoted(p.name))
	case !isUID(p.uid):
		return pod{}, badArgs("K8S_POD_UID is not a UID", quoted(p.uid))
	}
	return p, nil
}

func badArgs(problem, details string) *types.Error {
	msg := "CNI_ARGS"
	if problem != "" {
		msg += ": " + problem
	}
	return types.NewError(types.ErrInvalidEnvironmentVariables, msg, details)
}

// isLabel tells a DNS label, as names of namespaces are.
func isLabel(s string) bool {
	const longest = 63
	if s == "" || len(s) > longest || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return only(s, func(c byte) bool { return lowerOrDigit(c) || c == '-' })
}

// isSubdomain tells labels with dots between them, as names of pods are; only the
// whole has a limit of length.
func isSubdomain(s string) bool {
	const longest = 253
	if len(s) > longest {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || part[0] == '-' || part[len(part)-1] == '-' ||
			!only(part, func(c byte) bool { return lowerOrDigit(c) || c == '-' }) {
			return false
		}
	}
	return true
}

// isUID is what UIDs of pods are made of: those of static pods are hashes. None is
// fine: not all runtimes tell.
func isUID(s string) bool {
	const longest = 128
	return len(s) <= longest && only(s, func(c byte) bool {
		return lowerOrDigit(c) || c >= 'A' && c <= 'Z' || c == '-' || c == '_' || c == '.'
	})
}

func lowerOrDigit(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func only(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}
