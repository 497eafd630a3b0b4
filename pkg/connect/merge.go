package connect

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/overland-net/overland/pkg/api/v1alpha1"
)

// merge makes an existing object what the wanted one is, in place, as far as
// connect decides about it, and tells what it kept though it is not as wanted.
func merge(have, want object) (kept string, err error) {
	switch have := have.(type) {
	case *corev1.Namespace:
		return "", nil // it is there: that is all
	case *corev1.ServiceAccount:
		if want, ok := want.(*corev1.ServiceAccount); ok {
			have.AutomountServiceAccountToken = want.AutomountServiceAccountToken
		}
	case *rbacv1.ClusterRole:
		if want, ok := want.(*rbacv1.ClusterRole); ok {
			have.Rules, have.AggregationRule = want.Rules, nil
		}
	case *rbacv1.ClusterRoleBinding:
		if want, ok := want.(*rbacv1.ClusterRoleBinding); ok {
			if have.RoleRef != want.RoleRef {
				return "", fmt.Errorf("%s binds %s %s, which cannot be changed: delete it and run connect again", describe(have), have.RoleRef.Kind, have.RoleRef.Name)
			}
			have.Subjects = want.Subjects
		}
	case *corev1.Secret:
		if want, ok := want.(*corev1.Secret); ok && want.Type != corev1.SecretTypeServiceAccountToken {
			if have.Type != want.Type {
				return "", fmt.Errorf("%s is of type %s, which cannot be changed: delete it and run connect again", describe(have), have.Type)
			}
			have.Data = want.Data
		}
	case *v1alpha1.RemoteCluster:
		if want, ok := want.(*v1alpha1.RemoteCluster); ok {
			kept = mergeRemoteCluster(have, want)
		}
	}
	have.SetLabels(with(have.GetLabels(), want.GetLabels()))
	have.SetAnnotations(with(have.GetAnnotations(), want.GetAnnotations()))
	return kept, nil
}

func with(have, want map[string]string) map[string]string {
	all := maps.Clone(have)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, want)
	return all
}

// mergeRemoteCluster changes of ranges and labels only what is as connect left it
// before, and never takes ranges away because they are not known any more.
func mergeRemoteCluster(have, want *v1alpha1.RemoteCluster) (kept string) {
	have.Spec.Credentials = want.Spec.Credentials
	var before applied
	// A mark that cannot be read is like one that says that nothing was written.
	_ = json.Unmarshal([]byte(have.Annotations[appliedAnnotation]), &before)
	now, wanted := appliedOf(have.Spec), appliedOf(want.Spec)
	var fields []string
	pick := func(field string, before, now, wanted []string) []string {
		if slices.Equal(now, wanted) || len(wanted) == 0 {
			return now
		}
		if len(now) == 0 || slices.Equal(now, before) {
			return wanted
		}
		fields = append(fields, fmt.Sprintf("spec.%s (wanted: %s)", field, strings.Join(wanted, ", ")))
		return now
	}
	result := applied{
		PodCIDRs:      pick("podCIDRs", before.PodCIDRs, now.PodCIDRs, wanted.PodCIDRs),
		NodeCIDRs:     pick("nodeCIDRs", before.NodeCIDRs, now.NodeCIDRs, wanted.NodeCIDRs),
		ClusterLabels: wanted.ClusterLabels,
	}
	if !maps.Equal(now.ClusterLabels, wanted.ClusterLabels) && !maps.Equal(now.ClusterLabels, before.ClusterLabels) {
		result.ClusterLabels = now.ClusterLabels
		fields = append(fields, "spec.clusterLabels")
	}
	result.to(&have.Spec)
	if len(fields) > 0 {
		return describe(have) + ": keeps what was changed by hand: " + strings.Join(fields, ", ")
	}
	return ""
}

// equal tells whether two versions of an object are the same.
func equal(a, b object) bool { return reflect.DeepEqual(a, b) }

// describe names an object as kubectl does.
func describe(o object) string {
	kind := "object"
	switch o.(type) {
	case *corev1.Namespace:
		kind = "Namespace"
	case *corev1.ServiceAccount:
		kind = "ServiceAccount"
	case *corev1.Secret:
		kind = "Secret"
	case *rbacv1.ClusterRole:
		kind = "ClusterRole"
	case *rbacv1.ClusterRoleBinding:
		kind = "ClusterRoleBinding"
	case *v1alpha1.RemoteCluster:
		kind = "RemoteCluster"
	}
	if o.GetNamespace() != "" {
		return kind + " " + o.GetNamespace() + "/" + o.GetName()
	}
	return kind + " " + o.GetName()
}
