package federation

import (
	"strings"

	"github.com/overland-net/overland/pkg/model"
)

// explain says what a reason means and the one thing to do about it. It is the
// message where the source has nothing more exact to say.
func explain(reason string) string {
	switch reason {
	case model.ReasonConnecting:
		return "Connecting to its API server for the first time since the leading agent started."
	case model.ReasonSyncing:
		return "Its API server answers; not everything has been listed yet."
	case model.ReasonInSync:
		return "All of its pods, nodes and namespaces are known, and watched."
	case model.ReasonSuspended:
		return "Not watched, because spec.suspend is set; what is known is kept. To go on: set spec.suspend to false."
	case model.ReasonTooLarge:
		return "It has more endpoints than spec.limits.endpoints; what is known is kept, nothing is added. Raise the limit, or narrow spec.import."
	}
	if text := explainConnection(reason); text != "" {
		return text
	}
	return explainRefusal(reason)
}

// explainConnection is for what lies between the agents and the API server.
func explainConnection(reason string) string {
	switch reason {
	case model.ReasonUnreachable:
		return "No connection to its API server, or no answer in time. Check that the server in the kubeconfig can be reached from the nodes: overland reach URL in an agent's pod."
	case model.ReasonNameNotResolved:
		return "The name of its API server has no address. Check the server in the kubeconfig, and the nodes' DNS (of a private cluster: the link of its private DNS zone)."
	case model.ReasonUntrustedServer:
		return "The certificate of its API server is not of the given CA, or not for that name. Put the right CA into the kubeconfig: run overland connect again."
	case model.ReasonUnauthorized:
		return "Its API server does not accept the credentials. Replace them: overland connect --rotate."
	case model.ReasonTokenExpired:
		return "The token has expired. Replace it: overland connect --rotate."
	case model.ReasonForbidden:
		return "The credentials may not list or watch what is needed: pods. Restore the account's ClusterRole and its binding: run overland connect again."
	case model.ReasonServerError:
		return "Its API server answers with errors. Look at that API server."
	case model.ReasonVersionTooOld:
		return "It runs a Kubernetes before 1.25. Upgrade that cluster."
	case model.ReasonSecretNotFound:
		return "The Secret of spec.credentials.secretRef does not exist in the agent's namespace, or lacks the key. Create it: run overland connect again."
	}
	return ""
}

// explainRefusal is for what is not accepted of a configuration or a cluster.
func explainRefusal(reason string) string {
	switch reason {
	case model.ReasonInvalidKubeconfig:
		return "The Secret does not hold a complete kubeconfig: one server, its CA, a token or client certificate. Replace it."
	case model.ReasonUnsafeKubeconfig:
		return "The kubeconfig has what is not accepted: exec, auth-provider, paths of files, insecure-skip-tls-verify, impersonation, or a server without https. Put an inline token or client certificate and an inline CA there."
	case model.ReasonInvalidName:
		return "The object's name is not a cluster's name: a DNS label of at most 63 characters other than local and any is expected. Remove the object and create it under another name."
	case model.ReasonInvalidSpec:
		return "A field of spec has a value that cannot be used. Correct it."
	case model.ReasonNameConflict:
		return "It has the name of this cluster. Remove the object; link that cluster under its own name."
	case model.ReasonSelfLink:
		return "It is this cluster itself (the same uid of namespace kube-system). Remove the object."
	case model.ReasonDuplicateCluster:
		return "It is linked under another name already (the same uid of namespace kube-system). Remove one of the two objects."
	case model.ReasonClusterChanged:
		return "Another cluster answers at that address than before; the old one's identities are dropped before the new one's count. If that is not meant, correct the server in the kubeconfig."
	}
	return "Not in a state that this version knows."
}

// unreadable says what a kind that may not be read is missing for.
func unreadable(kind model.Kind) string {
	switch kind {
	case model.KindNode:
		return "nodes: a peer of kind Node matches none of its nodes, and a pod of it that claims one of their addresses is not found out"
	case model.KindNamespace:
		return "namespaces: of a namespaceSelector only " + model.KeyNamespaceName + " can match there"
	}
	return strings.ToLower(kind.String()) + "s"
}
