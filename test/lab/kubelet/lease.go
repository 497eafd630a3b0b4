package kubelet

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// lease renews the node's lease, by which the node counts as alive.
func (k *Kubelet) lease(ctx context.Context) error {
	for {
		wait := k.cfg.LeaseInterval.Duration
		if err := k.renew(ctx); err != nil && ctx.Err() == nil {
			k.log.WithError(err).Debug("cannot renew the lease, trying again")
			wait = time.Second
		}
		if !pause(ctx, wait) {
			return nil
		}
	}
}

func (k *Kubelet) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	leases := k.client.CoordinationV1().Leases(v1.NamespaceNodeLease)
	now := metav1.NowMicro()
	seconds := int32(4 * k.cfg.LeaseInterval.Seconds())
	lease, err := leases.Get(ctx, k.cfg.NodeName, metav1.GetOptions{})
	if err == nil {
		lease.Spec.HolderIdentity, lease.Spec.RenewTime, lease.Spec.LeaseDurationSeconds = &k.cfg.NodeName, &now, &seconds
		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
		return err
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("get the lease: %w", err)
	}
	owner, err := k.client.CoreV1().Nodes().Get(ctx, k.cfg.NodeName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get the lease's owner: %w", err)
	}
	_, err = leases.Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name: k.cfg.NodeName, Namespace: v1.NamespaceNodeLease,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: owner.Name, UID: owner.UID}},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &k.cfg.NodeName, RenewTime: &now, LeaseDurationSeconds: &seconds},
	}, metav1.CreateOptions{})
	return err
}
