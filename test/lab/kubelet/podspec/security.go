package podspec

import (
	"fmt"

	v1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/test/lab/runtime"
)

// Security is who the container's processes are: its own settings, else the
// pod's.
func Security(pod *v1.Pod, c *v1.Container) (runtime.Security, error) {
	var out runtime.Security
	var nonRoot *bool
	if p := pod.Spec.SecurityContext; p != nil {
		out.User, out.Group, nonRoot = p.RunAsUser, p.RunAsGroup, p.RunAsNonRoot
		out.SupplementalGroups = append(out.SupplementalGroups, p.SupplementalGroups...)
		if p.FSGroup != nil {
			out.SupplementalGroups = append(out.SupplementalGroups, *p.FSGroup)
		}
	}
	if s := c.SecurityContext; s != nil {
		if s.RunAsUser != nil {
			out.User = s.RunAsUser
		}
		if s.RunAsGroup != nil {
			out.Group = s.RunAsGroup
		}
		if s.RunAsNonRoot != nil {
			nonRoot = s.RunAsNonRoot
		}
		out.Privileged = s.Privileged != nil && *s.Privileged
		out.ReadOnlyRoot = s.ReadOnlyRootFilesystem != nil && *s.ReadOnlyRootFilesystem
		out.NoNewPrivileges = s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation
		if s.Capabilities != nil {
			out.AddCapabilities = names(s.Capabilities.Add)
			out.DropCapabilities = names(s.Capabilities.Drop)
		}
	}
	if nonRoot != nil && *nonRoot && (out.User == nil || *out.User == 0) {
		return out, fmt.Errorf("container has runAsNonRoot and image will run as root (pod: %s/%s, container: %s)",
			pod.Namespace, pod.Name, c.Name)
	}
	return out, nil
}

func names(all []v1.Capability) []string {
	var out []string
	for _, c := range all {
		out = append(out, string(c))
	}
	return out
}
