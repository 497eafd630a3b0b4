package connect

import (
	"encoding/json"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/overland-net/overland/pkg/api/v1alpha1"
	"github.com/overland-net/overland/pkg/source"
)

// The marks by which connect and disconnect know what is theirs. An object that
// lacks one of the first two is never changed or removed.
const (
	managedByLabel = "app.kubernetes.io/managed-by"
	managedBy      = "overland-connect"
	peerAnnotation = "overland.dev/connect-peer" // the name of the other cluster
	// appliedAnnotation is on a RemoteCluster: what connect last wrote of the
	// fields that people may change. What they changed is kept.
	appliedAnnotation = "overland.dev/connect-applied"

	kubeconfigKey = "kubeconfig"
	// placeholder is shown for a token in a dry run.
	placeholder = "filled-in-by-overland-connect"
)

// Direction is one half of a link: cluster Learner is to know the pods and nodes
// of cluster Source.
type Direction struct {
	Learner, Source string
	// Server, TLSServerName and CA (PEM) are how the learner's nodes reach the
	// source's API server.
	Server, TLSServerName string
	CA                    []byte
	// Ranges and Labels are the source's.
	Ranges Ranges
	Labels map[string]string
}

// object is what all objects here are.
type object interface {
	metav1.Object
	runtime.Object
}

// accountName is the account on the source by which the learner reads it.
func (d Direction) accountName() string { return "overland-remote-" + d.Learner }

// tokenNames are the names that the Secret with the account's token can have:
// rotation makes one while the other is in use.
func (d Direction) tokenNames() []string {
	return []string{d.accountName() + "-token", d.accountName() + "-token-2"}
}

// kubeconfigName is the Secret on the learner.
func (d Direction) kubeconfigName() string { return "overland-kubeconfig-" + d.Source }

func marks(name, namespace, peer string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: name, Namespace: namespace,
		Labels: map[string]string{
			managedByLabel:              managedBy,
			"app.kubernetes.io/part-of": "overland",
		},
		Annotations: map[string]string{peerAnnotation: peer},
	}
}

// ours tells whether connect has made the object, for that peer.
func ours(o metav1.Object, peer string) bool {
	return o.GetLabels()[managedByLabel] == managedBy && o.GetAnnotations()[peerAnnotation] == peer
}

// namespace is the agent's, for a source on which no agent runs.
func (d Direction) namespace() *corev1.Namespace {
	return &corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: marks(Namespace, "", d.Learner),
	}
}

// account is what the source gives the learner: an account that may read pods,
// namespaces, nodes, Services and EndpointSlices, and nothing else (semantics 1.2).
func (d Direction) account() []object {
	name := d.accountName()
	no, read := false, []string{"get", "list", "watch"}
	return []object{
		&corev1.ServiceAccount{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
			ObjectMeta: marks(name, Namespace, d.Learner),
			// It reads from outside; no pod is to be it.
			AutomountServiceAccountToken: &no,
		},
		&rbacv1.ClusterRole{
			TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
			ObjectMeta: marks(name, "", d.Learner),
			Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{""}, Resources: []string{"pods", "namespaces", "nodes", "services"}, Verbs: read},
				{APIGroups: []string{discoveryv1.GroupName}, Resources: []string{"endpointslices"}, Verbs: read},
			},
		},
		&rbacv1.ClusterRoleBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"},
			ObjectMeta: marks(name, "", d.Learner),
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: Namespace}},
		},
	}
}

// token is a Secret that the source's API server fills with a token that does
// not expire.
func (d Direction) token(name string) *corev1.Secret {
	s := &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: marks(name, Namespace, d.Learner),
		Type:       corev1.SecretTypeServiceAccountToken,
	}
	s.Annotations[corev1.ServiceAccountNameKey] = d.accountName()
	return s
}

// kubeconfig is the Secret with which the learner's agents read the source. What
// agents would refuse is an error here.
func (d Direction) kubeconfig(token string) (*corev1.Secret, error) {
	user := d.accountName()
	text, err := clientcmd.Write(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{d.Source: {
			Server: d.Server, TLSServerName: d.TLSServerName, CertificateAuthorityData: d.CA,
		}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{user: {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{d.Source: {Cluster: d.Source, AuthInfo: user}},
		CurrentContext: d.Source,
	})
	if err != nil {
		return nil, fmt.Errorf("make a kubeconfig for %s: %w", d.Source, err)
	}
	if _, failure := source.ParseKubeconfig(text); failure != nil {
		return nil, fmt.Errorf("the agents of %s would refuse the kubeconfig for %s: %s", d.Learner, d.Source, failure.Message)
	}
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: marks(d.kubeconfigName(), Namespace, d.Source),
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{kubeconfigKey: text},
	}, nil
}

// applied is the fields of a RemoteCluster that connect fills and people may
// change.
type applied struct {
	PodCIDRs      []string          `json:"podCIDRs,omitempty"`
	NodeCIDRs     []string          `json:"nodeCIDRs,omitempty"`
	ClusterLabels map[string]string `json:"clusterLabels,omitempty"`
}

func (d Direction) applied() applied {
	return applied{texts(d.Ranges.Pods), texts(d.Ranges.Nodes), d.Labels}
}

// remoteCluster is the object on the learner that links the source.
func (d Direction) remoteCluster() (*v1alpha1.RemoteCluster, error) {
	r := &v1alpha1.RemoteCluster{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: v1alpha1.Kind},
		ObjectMeta: marks(d.Source, "", d.Source),
	}
	r.Spec.Credentials.SecretRef = v1alpha1.SecretRef{Name: d.kubeconfigName(), Key: kubeconfigKey}
	d.applied().to(&r.Spec)
	mark, err := json.Marshal(d.applied())
	if err != nil {
		return nil, fmt.Errorf("mark RemoteCluster %s: %w", d.Source, err)
	}
	r.Annotations[appliedAnnotation] = string(mark)
	return r, nil
}

func (a applied) to(spec *v1alpha1.RemoteClusterSpec) {
	spec.PodCIDRs, spec.NodeCIDRs, spec.ClusterLabels = a.PodCIDRs, a.NodeCIDRs, nil
	for k, v := range a.ClusterLabels {
		if spec.ClusterLabels == nil {
			spec.ClusterLabels = map[string]v1alpha1.LabelValue{}
		}
		spec.ClusterLabels[k] = v1alpha1.LabelValue(v)
	}
}

func appliedOf(spec v1alpha1.RemoteClusterSpec) applied {
	a := applied{PodCIDRs: spec.PodCIDRs, NodeCIDRs: spec.NodeCIDRs}
	for k, v := range spec.ClusterLabels {
		if a.ClusterLabels == nil {
			a.ClusterLabels = map[string]string{}
		}
		a.ClusterLabels[k] = string(v)
	}
	return a
}

// SideOptions is what a person may say of one of the clusters.
type SideOptions struct {
	Name          string         // instead of what the cluster calls itself
	Server        string         // instead of the context's, as nodes reach it
	TLSServerName string         // instead of the context's
	CA            []byte         // PEM; instead of the context's
	Pods, Nodes   []netip.Prefix // ranges
}
