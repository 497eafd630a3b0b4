package worlds

import (
	"fmt"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/source"
)

// message is what API servers send of an object.
type message interface {
	comparable
	Marshal() ([]byte, error)
	GetName() string
	GetNamespace() string
}

// Facts is how the agents of a cluster see the World: the clusters, namespaces,
// nodes and pods of all, the policies of their own. An object that is no endpoint
// is left out, as are those that the source refuses.
func Facts(w World, cluster string) ([]model.Change, error) {
	return FactsBetween(World{}, w, cluster)
}

// FactsBetween is what an agent of a cluster learns when one World becomes
// another; it looks at the objects that they do not share.
func FactsBetween(old, now World, cluster string) ([]model.Change, error) {
	l := learner{local: cluster}
	for i := range now.Clusters {
		c := &now.Clusters[i]
		before := old.Cluster(c.Name)
		if before == nil {
			before = &Cluster{}
			l.changes = append(l.changes, model.Set(clusterFact(c, c.Name == cluster, i)))
		}
		l.cluster(before, c)
	}
	for i := range old.Clusters {
		if c := &old.Clusters[i]; now.Cluster(c.Name) == nil {
			l.cluster(c, &Cluster{Name: c.Name})
			l.changes = append(l.changes, model.Gone(model.ClusterKey(c.Name)))
		}
	}
	return l.changes, l.err
}

// clusterFact is what agents are told of a cluster, local or linked.
func clusterFact(c *Cluster, local bool, rank int) *model.Cluster {
	return &model.Cluster{
		Name: c.Name, Local: local, UID: model.ParseUID("RemoteCluster " + c.Name), Created: int64(1000 + rank),
		Labels: model.NewLabels(c.Labels), PodCIDRs: c.PodCIDRs, NodeCIDRs: c.NodeCIDRs, InContact: true,
	}
}

type learner struct {
	local   string
	changes []model.Change
	err     error
}

func (l *learner) cluster(old, now *Cluster) {
	learn(l, model.KindNamespace, now.Name, old.Namespaces, now.Namespaces)
	learn(l, model.KindNode, now.Name, old.Nodes, now.Nodes)
	learn(l, model.KindPod, now.Name, old.Pods, now.Pods)
	if now.Name == l.local {
		learn(l, model.KindPolicy, now.Name, old.Policies, now.Policies)
	}
}

// learn goes through the objects of one kind: what is equal is the same object.
func learn[T message](l *learner, kind model.Kind, cluster string, old, now []T) {
	key := func(o T) model.Key {
		return model.Key{Kind: kind, Cluster: cluster, Namespace: o.GetNamespace(), Name: o.GetName()}
	}
	find := func(list []T, k model.Key) (object T, ok bool) {
		for _, o := range list {
			if key(o) == k {
				return o, true
			}
		}
		return object, false
	}
	for _, o := range old {
		if _, stays := find(now, key(o)); !stays {
			l.changes = append(l.changes, model.Gone(key(o)))
		}
	}
	for _, o := range now {
		before, known := find(old, key(o))
		if known && before == o {
			continue
		}
		text, err := o.Marshal()
		if err != nil {
			l.err = fmt.Errorf("write %v as a message: %w", key(o), err)
			continue
		}
		switch fact, _ := source.Fact(cluster, cluster == l.local, kind, text); {
		case fact != nil:
			l.changes = append(l.changes, model.Set(fact))
		case known:
			l.changes = append(l.changes, model.Gone(key(o)))
		}
	}
}
