package api

// The paths for the CNI plugin. All are POST with a CNIAttachment, but PathCNIGC,
// which takes a CNIAttachmentList, and PathCNIStatus, which is GET. They answer
// with a CNIAnswer, or with an Error: nothing was done then, and CNI's caller may
// try again.
const (
	// PathCNIAdd answers when the kernel enforces what policies say of the pod.
	PathCNIAdd = "/v1/cni/add"
	// PathCNICheck answers whether it still does.
	PathCNICheck = "/v1/cni/check"
	// PathCNIDelete is fine with what is not there. What the pod may send or get
	// is not changed as long as its link is there.
	PathCNIDelete = "/v1/cni/delete"
	// PathCNIGC deletes all attachments but those listed.
	PathCNIGC = "/v1/cni/gc"
	// PathCNIStatus answers whether an ADD could be served now.
	PathCNIStatus = "/v1/cni/status"
)

// KindCNIAnswer is the kind of a CNIAnswer.
const KindCNIAnswer = "CNIAnswer"

// CNIAttachment is what the runtime and the plugins before ours have told of a
// pod's link. PathCNIDelete needs ContainerID and IfName only.
type CNIAttachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"` // in the pod
	Netns       string `json:"netns,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	Pod         string `json:"pod,omitempty"`
	UID         string `json:"uid,omitempty"` // of the pod; empty: the runtime does not tell
	// PeerIndex is the index of the link's other end, which is the node's.
	PeerIndex int `json:"peerIndex,omitempty"`
	// Addresses are those that the previous result gives the pod, without lengths.
	Addresses []string `json:"addresses,omitempty"`
	// TimeoutMillis is how long the caller will wait for the answer; 0: as long as
	// it takes. The agent gives up a little earlier, to say why.
	TimeoutMillis int64 `json:"timeoutMillis,omitempty"`
}

// CNIAttachmentList is those of a node.
type CNIAttachmentList struct {
	Items []CNIAttachmentID `json:"items"`
}

// CNIAttachmentID names an attachment.
type CNIAttachmentID struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

// CNIAnswer says that it is done.
type CNIAnswer struct {
	APIVersion string `json:"apiVersion"` // Version
	Kind       string `json:"kind"`       // KindCNIAnswer
	// Version is the agent's.
	Version string `json:"version"`
}
