package federation

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/overland-net/overland/pkg/model"
)

// known applies batches as their definition says.
func known(facts map[model.Key]model.Fact, b model.Batch) {
	if b.Replace != 0 {
		maps.DeleteFunc(facts, func(k model.Key, _ model.Fact) bool {
			return k.Kind == b.Replace && k.Cluster == b.Cluster && (b.Namespace == "" || b.Namespace == k.Namespace)
		})
	}
	for _, c := range b.Changes {
		if delete(facts, c.Key); c.Value != nil {
			facts[c.Key] = c.Value
		}
	}
}

// TestCoalescedMailMeansTheSame: whenever it is fetched.
func TestCoalescedMailMeansTheSame(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 5))
		m := newMailbox("west")
		want, got := map[model.Key]model.Fact{}, map[model.Key]model.Fact{}
		fetch := func() {
			clusters, _ := m.take()
			for name, x := range clusters {
				if x.drained {
					maps.DeleteFunc(got, func(k model.Key, _ model.Fact) bool { return k.Cluster == name })
				}
				for _, b := range x.batches(name) {
					known(got, b)
				}
			}
		}
		for i := range 60 {
			cluster := []string{"west", "canada"}[random.IntN(2)]
			if random.IntN(15) == 0 {
				m.Drain(cluster)
				maps.DeleteFunc(want, func(k model.Key, _ model.Fact) bool { return k.Cluster == cluster })
				continue
			}
			b := model.Batch{Cluster: cluster}
			switch random.IntN(4) {
			case 0:
				b.Replace = model.KindService
			case 1:
				b.Replace = model.KindEndpointSlice
			}
			if b.Replace != 0 && random.IntN(2) == 0 {
				b.Namespace = fmt.Sprint(random.IntN(3))
			}
			for range random.IntN(4) {
				namespace, name := fmt.Sprint(random.IntN(3)), fmt.Sprint(random.IntN(3))
				if b.Namespace != "" {
					namespace = b.Namespace
				}
				var fact model.Fact = &model.Service{Key: model.ServiceKey(cluster, namespace, name), ResourceVersion: fmt.Sprint(i)}
				if b.Replace == model.KindEndpointSlice || b.Replace == 0 && random.IntN(2) == 0 {
					fact = &model.EndpointSlice{Key: model.EndpointSliceKey(cluster, namespace, name), Service: fmt.Sprint(i)}
				}
				c := model.Set(fact)
				if b.Replace == 0 && random.IntN(3) == 0 {
					c.Value = nil
				}
				b.Changes = append(b.Changes, c)
			}
			m.Facts(b)
			known(want, b)
			if random.IntN(10) == 0 {
				fetch()
			}
		}
		fetch()
		if !reflect.DeepEqual(want, got) {
			t.Fatalf("seed %d: got %v, want %v", seed, got, want)
		}
	}
}

func TestAMailboxIsBoundedByWhatThereIs(t *testing.T) {
	m := newMailbox("west")
	for i := range 100000 {
		m.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Set(&model.Service{Key: model.ServiceKey("canada", "shop", fmt.Sprint(i%10))})}})
		m.Status("canada", model.ClusterStatus{State: model.StateSyncing})
	}
	clusters, _ := m.take()
	if n := len(clusters["canada"].changes); n != 10 {
		t.Errorf("%d changes of 10 keys", n)
	}
}

func TestAClusterSpeaksOfItselfOnly_1_6(t *testing.T) {
	m := newMailbox("west")
	m.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{
		model.Set(&model.Service{Key: model.ServiceKey("west", "shop", "a")}),
		model.Set(&model.Cluster{Name: "west"}),
		model.Set(&model.Endpoint{Key: model.PodKey("canada", "shop", "a")}),
	}})
	clusters, _ := m.take()
	if x := clusters["canada"]; x != nil && len(x.changes) > 0 || clusters["west"] != nil {
		t.Errorf("taken: %v", clusters)
	}
}

func TestARemovedLinkIsDrained_3_3(t *testing.T) {
	m := newMailbox("west")
	canada := &model.Cluster{Name: "canada", UID: model.ParseUID("a")}
	m.Facts(model.Batch{Replace: model.KindCluster, Changes: []model.Change{model.Set(canada)}})
	m.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Set(&model.Service{Key: model.ServiceKey("canada", "shop", "a")})}})
	m.Status("canada", model.ClusterStatus{State: model.StateInSync})
	m.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Gone(model.ClusterKey("canada"))}})
	m.Facts(model.Batch{Cluster: "canada", Changes: []model.Change{model.Set(canada)}})
	clusters, linked := m.take()
	if x := clusters["canada"]; !linked || !x.drained || len(x.changes) > 0 || x.listed || x.fact != canada {
		t.Errorf("linked %v, mail %+v", linked, clusters["canada"])
	}
}
