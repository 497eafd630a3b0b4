package podstatus

import (
	"net/netip"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/kubelet/podplan"
	"github.com/overland-net/overland/test/lab/kubelet/podspec"
)

// Reason is why something is as it is: one word and a sentence.
type Reason struct{ Reason, Message string }

// Input is all that a pod's status follows from.
type Input struct {
	Pod     *v1.Pod      // with the status that the API server has
	Before  v1.PodStatus // the status computed last, or the API server's
	Seen    podplan.Seen
	Waiting map[string]Reason // why containers, by name, could not be started
	HostIPs []netip.Addr      // the node's, the primary first
	// Final says that no container of the pod will be started any more.
	Final bool
	// Failed overrides the phase, when the kubelet itself ends the pod.
	Failed *Reason
	Now    time.Time
}

// Compute returns the pod's status.
func Compute(in Input) v1.PodStatus {
	out := *in.Pod.Status.DeepCopy()
	out.ObservedGeneration = in.Pod.Generation
	out.ContainerStatuses = containers(in, in.Pod.Spec.Containers, in.Before.ContainerStatuses, false)
	out.InitContainerStatuses = containers(in, in.Pod.Spec.InitContainers, in.Before.InitContainerStatuses, true)
	if out.StartTime = in.Before.StartTime; out.StartTime == nil {
		out.StartTime = stamp(in.Now)
	}
	out.Phase = phase(in, append(append([]v1.ContainerStatus{}, out.InitContainerStatuses...), out.ContainerStatuses...))
	settle(in, &out)
	addresses(in, &out)
	out.Conditions = conditions(in, &out)
	return out
}

// settle keeps a pod that has ended in the phase that it ended in, and the
// reason that belongs to the phase.
func settle(in Input, out *v1.PodStatus) {
	out.Reason, out.Message = "", ""
	if in.Failed != nil {
		out.Phase = v1.PodFailed
	}
	for _, earlier := range []v1.PodStatus{in.Before, in.Pod.Status} {
		if Ended(earlier.Phase) {
			out.Phase = earlier.Phase
		}
	}
	for _, earlier := range []v1.PodStatus{in.Pod.Status, in.Before} {
		if earlier.Phase == out.Phase && earlier.Reason != "" {
			out.Reason, out.Message = earlier.Reason, earlier.Message
		}
	}
	if in.Failed != nil && out.Phase == v1.PodFailed {
		out.Reason, out.Message = in.Failed.Reason, in.Failed.Message
	}
}

// Ended says whether the phase is one that a pod does not leave.
func Ended(p v1.PodPhase) bool { return p == v1.PodSucceeded || p == v1.PodFailed }

func addresses(in Input, out *v1.PodStatus) {
	out.HostIP, out.HostIPs = "", nil
	for _, ip := range in.HostIPs {
		out.HostIPs = append(out.HostIPs, v1.HostIP{IP: ip.String()})
	}
	if len(in.HostIPs) > 0 {
		out.HostIP = out.HostIPs[0].IP
	}
	ips := PodIPs(in.Pod, in.Seen, in.HostIPs)
	if len(ips) == 0 && (in.Final || Ended(out.Phase)) {
		out.PodIP, out.PodIPs = in.Before.PodIP, in.Before.PodIPs // what it had is still of interest
		return
	}
	out.PodIP, out.PodIPs = "", nil
	for _, ip := range ips {
		out.PodIPs = append(out.PodIPs, v1.PodIP{IP: ip.String()})
	}
	if len(ips) > 0 {
		out.PodIP = out.PodIPs[0].IP
	}
}

// PodIPs are the pod's addresses, at most one a family, that of the node's
// primary family first; a pod on the host network has the node's.
func PodIPs(pod *v1.Pod, seen podplan.Seen, host []netip.Addr) []netip.Addr {
	if pod.Spec.HostNetwork {
		return host
	}
	sandbox, ok := seen.Sandbox()
	if !ok {
		return nil
	}
	return podspec.Sorted(sandbox.IPs, len(host) > 0 && host[0].Is6())
}

// stamp is a time as the API keeps it: in whole seconds.
func stamp(t time.Time) *metav1.Time {
	s := metav1.NewTime(t).Rfc3339Copy()
	return &s
}
