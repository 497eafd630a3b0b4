package podspec

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Addresses are what the fields status.podIPs and status.hostIPs read; the
// first one is the primary. They are given apart from the pod because its
// status is written later than its containers are started.
type Addresses struct {
	Pod, Host []netip.Addr
}

// Sorted returns at most one address a family, the primary family first.
func Sorted(addrs []netip.Addr, primaryV6 bool) []netip.Addr {
	var out []netip.Addr
	for _, v6 := range []bool{primaryV6, !primaryV6} {
		at := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Unmap().Is6() == v6 })
		if at >= 0 {
			out = append(out, addrs[at].Unmap())
		}
	}
	return out
}

// Field is the value of a downward API field of the pod.
func Field(pod *v1.Pod, path string, at Addresses) (string, error) {
	if base, key, found := strings.Cut(path, "['"); found && strings.HasSuffix(key, "']") {
		key = strings.TrimSuffix(key, "']")
		switch base {
		case "metadata.labels":
			return pod.Labels[key], nil
		case "metadata.annotations":
			return pod.Annotations[key], nil
		}
		return "", fmt.Errorf("field %q cannot have a key", path)
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return lines(pod.Labels), nil
	case "metadata.annotations":
		return lines(pod.Annotations), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.podIP":
		return first(at.Pod), nil
	case "status.podIPs":
		return join(at.Pod), nil
	case "status.hostIP":
		return first(at.Host), nil
	case "status.hostIPs":
		return join(at.Host), nil
	}
	return "", fmt.Errorf("field %q is not supported by the downward API", path)
}

// lines is the downward API's text of a map: sorted key="value" lines.
func lines(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = k + "=" + strconv.Quote(m[k])
	}
	return strings.Join(out, "\n")
}

func first(addrs []netip.Addr) string {
	if len(addrs) == 0 {
		return ""
	}
	return addrs[0].String()
}

func join(addrs []netip.Addr) string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return strings.Join(out, ",")
}

// Resource is the value of a resourceFieldRef. A limit that the container does
// not have is the node's allocatable amount.
func Resource(pod *v1.Pod, container *v1.Container, ref *v1.ResourceFieldSelector, allocatable v1.ResourceList) (string, error) {
	if ref.ContainerName != "" && (container == nil || ref.ContainerName != container.Name) {
		if container = FindContainer(pod, ref.ContainerName); container == nil {
			return "", fmt.Errorf("resource field %s: the pod has no container %q", ref.Resource, ref.ContainerName)
		}
	}
	if container == nil {
		return "", fmt.Errorf("resource field %s: no container named", ref.Resource)
	}
	kind, name, _ := strings.Cut(ref.Resource, ".")
	var list v1.ResourceList
	switch kind {
	case "limits":
		list = container.Resources.Limits
	case "requests":
		list = container.Resources.Requests
	default:
		return "", fmt.Errorf("resource field %q is not supported", ref.Resource)
	}
	quantity, ok := list[v1.ResourceName(name)]
	if !ok && kind == "limits" {
		quantity = allocatable[v1.ResourceName(name)]
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	amount, unit := float64(quantity.Value()), float64(divisor.Value())
	if name == string(v1.ResourceCPU) {
		amount, unit = float64(quantity.MilliValue()), float64(divisor.MilliValue())
	}
	return strconv.FormatInt(int64(math.Ceil(amount/unit)), 10), nil
}

// FindContainer finds a container or init container by its name; nil if absent.
func FindContainer(pod *v1.Pod, name string) *v1.Container {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == name {
			return &pod.Spec.Containers[i]
		}
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return &pod.Spec.InitContainers[i]
		}
	}
	return nil
}
