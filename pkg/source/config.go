package source

import (
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"

	"github.com/overland-net/overland/pkg/model"
)

// DefaultNamespace is the agent's namespace in every cluster.
const DefaultNamespace = "overland-system"

// systemNamespace is the namespace whose uid is the cluster's (semantics 1.1).
const systemNamespace = "kube-system"

// config is what a Cluster is told. It is not changed afterwards.
type config struct {
	name  string
	local bool
	// node is the name of the agent's own node, in the local cluster.
	node string
	// services: Services and EndpointSlices are read, instead of all else.
	services bool
	// connect is how; a copy of it gets a client of this cluster alone.
	connect *rest.Config
	// expire and issued are those of the credentials; zero if unknown.
	expire, issued time.Time
	// namespaces are the only ones that are read, unless empty; selector selects
	// them by labels, unless nil.
	namespaces []string
	selector   labels.Selector
	// limit is how many endpoints are taken, and how many namespaces, or how many
	// Services and endpoints of EndpointSlices; labelBytes is for one object. 0:
	// no limit.
	limit, labelBytes int
	// staleAfter is after how long without contact the agent drops what is known;
	// 0: never.
	staleAfter     time.Duration
	agentNamespace string
	timing         Timing
	// accept judges the uid of the API server's cluster, empty if it cannot be
	// read; nil for the local one.
	accept func(uid string) verdict
}

// kinds are those that are read of the imported namespaces.
func (c *config) kinds() []model.Kind {
	if c.services {
		return []model.Kind{model.KindService, model.KindEndpointSlice}
	}
	return []model.Kind{model.KindPod}
}

// verdict is what a cluster's uid means.
type verdict struct {
	// refused says why nothing is taken from it; nil if it is.
	refused *Failure
	// changed: it is another cluster than before.
	changed bool
}

// averageBytes is how much the variable parts of an endpoint may take on
// average over the limit of endpoints: several times what they do in any real
// cluster. It is what keeps a cluster of fat labels from filling a node.
const averageBytes = 1 << 10

// leastBytes leaves small limits enough for a few fat objects.
const leastBytes = 64 << 20

func (c *config) bytesLimit() int { return max(c.limit*averageBytes, leastBytes) }
