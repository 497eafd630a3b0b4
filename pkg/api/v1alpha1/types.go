package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RemoteCluster links a cluster: its pods and nodes become known identities on
// every node of this one. The object's name is the name of the cluster: a DNS
// label other than "local" and "any".
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=rcl,categories=overland
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`,description="InSync if all is known and up to date."
// +kubebuilder:printcolumn:name="Endpoints",type=integer,JSONPath=`.status.endpoints`,description="Pods and nodes that are known of the cluster."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="Why it is in that state."
// +kubebuilder:printcolumn:name="Last Contact",type=date,priority=1,JSONPath=`.status.lastContactTime`,description="When its API server last answered."
// +kubebuilder:printcolumn:name="Version",type=string,priority=1,JSONPath=`.status.kubernetesVersion`,description="Its Kubernetes version."
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",message="metadata.name is the cluster's name: expected a DNS label of at most 63 characters (a-z, 0-9, -)"
// +kubebuilder:validation:XValidation:rule="!(self.metadata.name in ['local', 'any'])",message="metadata.name is the cluster's name: 'local' and 'any' are reserved"
type RemoteCluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says how to reach the cluster and what may come from it.
	// +required
	Spec RemoteClusterSpec `json:"spec"`

	// status is what the leading agent sees of the cluster. It is written when
	// the state changes, else at most once a minute.
	// +optional
	Status RemoteClusterStatus `json:"status,omitzero"`
}

// RemoteClusterList is a list of RemoteClusters.
//
// +kubebuilder:object:root=true
type RemoteClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RemoteCluster `json:"items"`
}

// RemoteClusterSpec says how to reach a cluster and what may come from it.
type RemoteClusterSpec struct {
	// credentials are how to reach the cluster's API server.
	// +required
	Credentials Credentials `json:"credentials"`

	// clusterLabels are labels of the whole cluster, such as its region. Label
	// KEY can be selected as cluster.overland.dev/KEY. Keys are label names
	// without a prefix: no "/".
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(key, key.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",message="keys are label names without a prefix: expected at most 63 letters, digits, '-', '_' and '.', a letter or digit first and last, no '/'"
	ClusterLabels map[string]LabelValue `json:"clusterLabels,omitempty"`

	// podCIDRs are the address ranges that the cluster's pods may claim, such as
	// 10.2.0.0/16 or fd00:2::/48, with no bit set beyond their length. Once a
	// range of one address family is listed in podCIDRs or nodeCIDRs, addresses
	// of a family without any are refused. Without any range at all, every
	// address is taken that is not refused for another reason, and condition
	// AddressesTrusted is False.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:Format=cidr
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:items:Pattern=`^([0-9.]+|[0-9A-Fa-f:]+)/(0|[1-9][0-9]{0,2})$`
	PodCIDRs []string `json:"podCIDRs,omitempty"`

	// nodeCIDRs are the address ranges that the cluster's nodes may claim, in
	// the form of podCIDRs.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:Format=cidr
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:items:Pattern=`^([0-9.]+|[0-9A-Fa-f:]+)/(0|[1-9][0-9]{0,2})$`
	NodeCIDRs []string `json:"nodeCIDRs,omitempty"`

	// import limits which namespaces are read; without it, all are.
	// +optional
	Import *Import `json:"import,omitempty"`

	// suspend stops watching the cluster. What is known of it is kept, and
	// identities.staleAfter does not run meanwhile.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// identities say how long pods and nodes are known without contact.
	// +optional
	Identities Identities `json:"identities,omitzero"`

	// services say how the cluster takes part in federated Services.
	// +optional
	// +kubebuilder:default={}
	Services Services `json:"services,omitzero"`

	// limits bound what the cluster may cost this one.
	// +optional
	// +kubebuilder:default={}
	Limits Limits `json:"limits,omitzero"`
}

// Credentials are how to reach a cluster's API server.
type Credentials struct {
	// secretRef names a Secret in the agent's namespace that holds a
	// kubeconfig. When the Secret changes, the agents connect anew.
	// +required
	SecretRef SecretRef `json:"secretRef"`
}

// SecretRef names a key of a Secret in the agent's namespace.
type SecretRef struct {
	// name is the Secret's name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name"`

	// key is the key in the Secret that has the kubeconfig. It must have an
	// inline token or client certificate, an inline CA and an https server;
	// exec, auth-provider, paths of files, insecure-skip-tls-verify and
	// impersonation are not accepted.
	// +optional
	// +kubebuilder:default=kubeconfig
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	Key string `json:"key,omitempty"`
}

// LabelValue is the value of a label: at most 63 letters, digits, '-', '_' and
// '.', a letter or digit first and last; or empty.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$`
type LabelValue string

// Import limits which namespaces of a cluster are read.
//
// +kubebuilder:validation:XValidation:rule="!has(self.namespaceSelector) || !has(self.namespaces) || size(self.namespaces) == 0",message="expected one of namespaces and namespaceSelector, not both"
type Import struct {
	// namespaces are the names of the namespaces to read. Only those are
	// listed, so that Roles in these namespaces suffice on the remote.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespaces []string `json:"namespaces,omitempty"`

	// namespaceSelector selects the namespaces to read by the labels that they
	// have in the remote cluster.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && size(e.values) > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))",message="matchExpressions: expected operator In or NotIn with values, or Exists or DoesNotExist without"
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
}

// Identities say how long a cluster's pods and nodes are known without contact.
type Identities struct {
	// staleAfter drops all identities of the cluster after so long without
	// contact, such as 24h. 0s, the default, is never.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^(0|([0-9]{1,5}(\.[0-9]{1,9})?(h|m|s|ms)){1,4})$`
	StaleAfter metav1.Duration `json:"staleAfter,omitzero"`
}

// Services say how a cluster takes part in federated Services.
type Services struct {
	// spareAfter makes the cluster's endpoints spare after so long without
	// contact: from then on they serve only if clusters in contact have too few.
	// The default is 60s; 0s is at once.
	// +optional
	// +kubebuilder:default="60s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^(0|([0-9]{1,5}(\.[0-9]{1,9})?(h|m|s|ms)){1,4})$`
	SpareAfter *metav1.Duration `json:"spareAfter,omitempty"`

	// staleAfter withdraws the cluster's endpoints from federated Services
	// after so long without contact. 0s, the default, is never.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^(0|([0-9]{1,5}(\.[0-9]{1,9})?(h|m|s|ms)){1,4})$`
	StaleAfter metav1.Duration `json:"staleAfter,omitzero"`

	// allowExternalAddresses takes endpoints of the cluster's Services also if
	// their address is of none of its pods and nodes.
	// +optional
	AllowExternalAddresses bool `json:"allowExternalAddresses,omitempty"`
}

// Limits bound what a cluster may cost this one.
type Limits struct {
	// endpoints is how many pods and nodes are taken. Beyond it the cluster is
	// not Ready, reason TooLarge: what is known is kept, nothing is added.
	// +optional
	// +kubebuilder:default=250000
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=5000000
	Endpoints int32 `json:"endpoints,omitempty"`

	// labelBytes is how many bytes the labels of one pod, node or namespace
	// may have, keys and values together. An object with more is refused.
	// +optional
	// +kubebuilder:default=16384
	// +kubebuilder:validation:Minimum=1024
	// +kubebuilder:validation:Maximum=1048576
	LabelBytes int32 `json:"labelBytes,omitempty"`
}

// The types of a RemoteCluster's conditions.
const (
	// ConditionReady is True while all is known and the API server answers.
	ConditionReady = "Ready"
	// ConditionSynced is True once everything has been listed.
	ConditionSynced = "Synced"
	// ConditionStale is True while what is known may be out of date.
	ConditionStale = "Stale"
	// ConditionAddressesTrusted is False if no address ranges are declared.
	ConditionAddressesTrusted = "AddressesTrusted"
	// ConditionCredentialsExpiring is True when a third of their life is left.
	ConditionCredentialsExpiring = "CredentialsExpiring"
)

// RemoteClusterStatus is what the leading agent sees of a cluster.
type RemoteClusterStatus struct {
	// state is one word for people: Connecting, Syncing, InSync, OutOfContact,
	// Refused or Suspended.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	State string `json:"state,omitempty"`

	// conditions are Ready, Synced, Stale, AddressesTrusted and
	// CredentialsExpiring.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// clusterUID is the uid of the cluster's namespace kube-system. It is
	// pinned at the first contact: another cluster at the same address shows.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	ClusterUID string `json:"clusterUID,omitempty"`

	// endpoints is the number of pods and nodes that are known.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Endpoints int32 `json:"endpoints"`

	// rejectedEndpoints counts what the cluster claims and is not taken, by
	// reason.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	RejectedEndpoints map[string]int32 `json:"rejectedEndpoints,omitempty"`

	// namespaces is the number of namespaces that are known.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Namespaces int32 `json:"namespaces"`

	// services is the number of its Services that back federated Services.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Services int32 `json:"services"`

	// lastContactTime is when the cluster's API server last answered.
	// +optional
	LastContactTime *metav1.Time `json:"lastContactTime,omitempty"`

	// kubernetesVersion is what the cluster's API server says it runs.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`

	// observedBy is the node whose agent wrote this status.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ObservedBy string `json:"observedBy,omitempty"`

	// observedGeneration is the metadata.generation that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
}
