package kubelet

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	goruntime "runtime"
)

// networkPoll is how often the pod network is looked at, so that a node gets
// ready as soon as it is.
const networkPoll = 500 * time.Millisecond

// node keeps the node's API object.
type node struct {
	k     *Kubelet
	ref   *v1.ObjectReference
	ready v1.ConditionStatus // as written last
	boot  string
}

func newNode(k *Kubelet) *node {
	name := k.cfg.NodeName
	return &node{k: k, ref: &v1.ObjectReference{Kind: "Node", Name: name, UID: types.UID(name)}}
}

// run registers the node and keeps its status until the context ends.
func (n *node) run(ctx context.Context) error {
	n.k.events.Event(n.ref, v1.EventTypeNormal, "Starting", "Starting kubelet.")
	var written time.Time
	failed := false
	for {
		due := time.Since(written) >= n.k.cfg.StatusInterval.Duration
		changed := n.ready != status(n.k.sandboxes.NetworkReady() == nil)
		if due || changed {
			err := n.write(ctx)
			if err == nil {
				written = time.Now()
			}
			if (err != nil) != failed && ctx.Err() == nil {
				failed = err != nil
				n.k.log.WithError(err).WithField("failed", failed).Info("writing the node's status changed")
			}
		}
		if !pause(ctx, networkPoll) {
			return nil
		}
	}
}

func status(ok bool) v1.ConditionStatus {
	if ok {
		return v1.ConditionTrue
	}
	return v1.ConditionFalse
}

func (n *node) write(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	nodes := n.k.client.CoreV1().Nodes()
	have, err := nodes.Get(ctx, n.k.cfg.NodeName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		fresh := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.k.cfg.NodeName}}
		n.label(fresh)
		fresh.Spec.Taints = n.k.cfg.Taints
		if have, err = nodes.Create(ctx, fresh, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("register the node: %w", err)
		}
		n.k.log.Info("node registered")
	case err != nil:
		return fmt.Errorf("get the node: %w", err)
	default:
		labelled := have.DeepCopy()
		n.label(labelled)
		if equality.Semantic.DeepEqual(have.Labels, labelled.Labels) {
			break
		}
		if have, err = nodes.Update(ctx, labelled, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("label the node: %w", err)
		}
	}
	now, err := n.status(have.Status, time.Now())
	if err != nil {
		return err
	}
	before := have.Status.NodeInfo.BootID
	have.Status = now
	if _, err = nodes.UpdateStatus(ctx, have, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write the node's status: %w", err)
	}
	n.tell(before, now)
	return nil
}

// tell sends the events of what changed.
func (n *node) tell(before string, now v1.NodeStatus) {
	if boot := now.NodeInfo.BootID; n.boot != boot {
		if before != "" && before != boot {
			n.k.events.Eventf(n.ref, v1.EventTypeWarning, "Rebooted", "Node %s has been rebooted, boot id: %s", n.k.cfg.NodeName, boot)
		}
		n.boot = boot
	}
	for _, c := range now.Conditions {
		if c.Type != v1.NodeReady || c.Status == n.ready {
			continue
		}
		n.ready = c.Status
		reason := "NodeNotReady"
		if c.Status == v1.ConditionTrue {
			reason = "NodeReady"
		}
		n.k.events.Eventf(n.ref, v1.EventTypeNormal, reason, "Node %s status is now: %s", n.k.cfg.NodeName, reason)
		n.k.log.WithField("ready", c.Status).WithField("why", c.Message).Info("node's condition changed")
	}
}

func (n *node) label(to *v1.Node) {
	if to.Labels == nil {
		to.Labels = map[string]string{}
	}
	to.Labels[v1.LabelHostname] = n.k.cfg.NodeName
	to.Labels[v1.LabelOSStable], to.Labels[v1.LabelArchStable] = "linux", goruntime.GOARCH
	to.Labels["beta.kubernetes.io/os"], to.Labels["beta.kubernetes.io/arch"] = "linux", goruntime.GOARCH
	for k, v := range n.k.cfg.Labels {
		to.Labels[k] = v
	}
}

// status is the node's status now. What others write there stays.
func (n *node) status(before v1.NodeStatus, now time.Time) (v1.NodeStatus, error) {
	out := *before.DeepCopy()
	info, err := n.info()
	if err != nil {
		return out, err
	}
	out.NodeInfo = info
	out.Capacity, out.Allocatable = n.k.cfg.allocatable(), n.k.cfg.allocatable()
	out.Addresses = nil
	for _, a := range n.k.cfg.Addresses {
		out.Addresses = append(out.Addresses, v1.NodeAddress{Type: v1.NodeInternalIP, Address: a.String()})
	}
	out.Addresses = append(out.Addresses, v1.NodeAddress{Type: v1.NodeHostName, Address: n.k.cfg.NodeName})
	out.DaemonEndpoints = v1.NodeDaemonEndpoints{KubeletEndpoint: v1.DaemonEndpoint{Port: Port}}
	out.Conditions = n.conditions(before.Conditions, now)
	return out, nil
}

func (n *node) info() (v1.NodeSystemInfo, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return v1.NodeSystemInfo{}, fmt.Errorf("ask for the kernel's version: %w", err)
	}
	boot, err := os.ReadFile(n.k.cfg.BootIDFile)
	if err != nil {
		return v1.NodeSystemInfo{}, fmt.Errorf("read the boot id: %w", err)
	}
	return v1.NodeSystemInfo{
		BootID: strings.TrimSpace(string(boot)), MachineID: n.k.cfg.NodeName, SystemUUID: n.k.cfg.NodeName,
		KernelVersion: unix.ByteSliceToString(u.Release[:]), OSImage: "Overland lab node",
		ContainerRuntimeVersion: "lab://1.0", KubeletVersion: Version,
		OperatingSystem: "linux", Architecture: goruntime.GOARCH,
	}, nil
}

func (n *node) conditions(before []v1.NodeCondition, now time.Time) []v1.NodeCondition {
	own := []v1.NodeCondition{
		{Type: v1.NodeMemoryPressure, Status: v1.ConditionFalse, Reason: "KubeletHasSufficientMemory", Message: "kubelet has sufficient memory available"},
		{Type: v1.NodeDiskPressure, Status: v1.ConditionFalse, Reason: "KubeletHasNoDiskPressure", Message: "kubelet has no disk pressure"},
		{Type: v1.NodePIDPressure, Status: v1.ConditionFalse, Reason: "KubeletHasSufficientPID", Message: "kubelet has sufficient PID available"},
		{Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"},
	}
	if err := n.k.sandboxes.NetworkReady(); err != nil {
		ready := &own[len(own)-1]
		ready.Status, ready.Reason = v1.ConditionFalse, "KubeletNotReady"
		ready.Message = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:" + err.Error()
	}
	stamp := metav1.NewTime(now).Rfc3339Copy()
	mine := map[v1.NodeConditionType]bool{}
	for i := range own {
		c := &own[i]
		mine[c.Type] = true
		c.LastHeartbeatTime, c.LastTransitionTime = stamp, stamp
		for _, had := range before {
			if had.Type == c.Type && had.Status == c.Status {
				c.LastTransitionTime = had.LastTransitionTime
			}
		}
	}
	for _, c := range before {
		if !mine[c.Type] {
			own = append(own, c)
		}
	}
	return own
}
