package agent

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/policy"
)

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

// starting is a pod of this node as an API server says of it, without addresses if
// there are none.
func starting(name string, id byte, created int64, texts ...string) *model.Endpoint {
	return &model.Endpoint{
		Key: model.PodKey("west", "demo", name), UID: uid(id), Node: "node-1", Created: created, Addresses: addrs(texts...),
	}
}

func attached(name string, id byte, order uint64, texts ...string) model.Attachment {
	return model.Attachment{
		ContainerID: fmt.Sprint(name, id, order), IfName: "eth0", Pod: model.PodKey("west", "demo", name), UID: uid(id),
		Interface: policy.InterfaceName("demo", name), Index: int(order), Addrs: addrs(texts...), Order: order,
	}
}

func ended(a model.Attachment) model.Attachment {
	a.Ended = true
	return a
}

func withFact(a model.Attachment, e *model.Endpoint) model.Attachment {
	a.Fact = e
	return a
}

func TestWhatIsTrueOfAPodOfThisNode(t *testing.T) {
	elsewhere := starting("a", 1, 1, "10.1.9.9")
	elsewhere.Node = "node-2"
	for name, tt := range map[string]struct {
		said        *model.Endpoint
		attachments []model.Attachment // newest first
		enforced    []netip.Addr       // nil: it is not there
		known       []netip.Addr
		uid         byte
	}{
		"nothing": {},
		"a pod that starts has no address and is no peer": {
			said: starting("a", 1, 1), enforced: addrs(), uid: 1,
		},
		"one that is connected has addresses before the API server knows": {
			said: starting("a", 1, 1), attachments: []model.Attachment{attached("a", 1, 1, "10.1.0.1", "fd00::1")},
			enforced: addrs("10.1.0.1", "fd00::1"), known: addrs("10.1.0.1", "fd00::1"), uid: 1,
		},
		"a runtime that tells no uid": {
			said: starting("a", 1, 1), attachments: []model.Attachment{attached("a", 0, 1, "10.1.0.1")},
			enforced: addrs("10.1.0.1"), known: addrs("10.1.0.1"), uid: 1,
		},
		"connected anew, the addresses of the API server are old": {
			said:        starting("a", 1, 1, "10.1.0.1"),
			attachments: []model.Attachment{attached("a", 1, 2, "10.1.0.2"), ended(attached("a", 1, 1, "10.1.0.1"))},
			enforced:    addrs("10.1.0.2"), known: addrs("10.1.0.2"), uid: 1,
		},
		"connected anew before the old DEL": {
			said:        starting("a", 1, 1, "10.1.0.1"),
			attachments: []model.Attachment{attached("a", 1, 2, "10.1.0.2"), attached("a", 1, 1, "10.1.0.1")},
			enforced:    addrs("10.1.0.2"), known: addrs("10.1.0.2"), uid: 1,
		},
		"an ended one is no peer, and stays under its policies": {
			said: starting("a", 1, 1, "10.1.0.1"), attachments: []model.Attachment{ended(attached("a", 1, 1, "10.1.0.1"))},
			enforced: addrs("10.1.0.1"), uid: 1,
		},
		"an ended one that the API server never had addresses of": {
			said: starting("a", 1, 1), attachments: []model.Attachment{ended(attached("a", 1, 1, "10.1.0.1"))},
			enforced: addrs("10.1.0.1"), uid: 1,
		},
		"addresses that did not end stay": {
			said: starting("a", 1, 1, "10.1.0.1", "10.1.0.2"), attachments: []model.Attachment{ended(attached("a", 1, 1, "10.1.0.1"))},
			enforced: addrs("10.1.0.1", "10.1.0.2"), known: addrs("10.1.0.2"), uid: 1,
		},
		"another pod of this name has nothing of it": {
			said: starting("a", 2, 2), attachments: []model.Attachment{attached("a", 1, 1, "10.1.0.1")}, enforced: addrs(), uid: 2,
		},
		"a pod that no source has told of yet": {
			attachments: []model.Attachment{withFact(attached("a", 1, 1, "10.1.0.1"), starting("a", 1, 1))},
			enforced:    addrs("10.1.0.1"), known: addrs("10.1.0.1"), uid: 1,
		},
		"the next pod of a StatefulSet, of which sources have the last one": {
			said: starting("a", 1, 1, "10.1.0.1"), attachments: []model.Attachment{
				withFact(attached("a", 2, 2, "10.1.0.2"), starting("a", 2, 2)), attached("a", 1, 1, "10.1.0.1"),
			},
			enforced: addrs("10.1.0.2"), known: addrs("10.1.0.2"), uid: 2,
		},
		"and of which sources have the last one on another node": {
			said:        elsewhere,
			attachments: []model.Attachment{withFact(attached("a", 2, 2, "10.1.0.2"), starting("a", 2, 2))},
			enforced:    addrs("10.1.0.2"), known: addrs("10.1.0.2"), uid: 2,
		},
		"the last one does not come back": {
			said: starting("a", 2, 2, "10.1.0.2"), attachments: []model.Attachment{withFact(attached("a", 1, 1, "10.1.0.1"), starting("a", 1, 1))},
			enforced: addrs("10.1.0.2"), known: addrs("10.1.0.2"), uid: 2,
		},
		"an attachment of a pod that is gone is nobody's": {
			attachments: []model.Attachment{attached("a", 1, 1, "10.1.0.1")},
		},
		"a pod of another node is not touched": {
			said: elsewhere, attachments: []model.Attachment{ended(attached("a", 1, 1, "10.1.9.9"))},
			enforced: addrs("10.1.9.9"), known: addrs("10.1.9.9"), uid: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := fmt.Sprint(tt.said, tt.attachments)
			enforced, known := effective(tt.said, "node-1", tt.attachments)
			if after := fmt.Sprint(tt.said, tt.attachments); after != before {
				t.Errorf("what it was given has changed: %s, was %s", after, before)
			}
			for what, check := range map[string]struct {
				got  *model.Endpoint
				want []netip.Addr
			}{"enforced": {enforced, tt.enforced}, "known": {known, tt.known}} {
				switch {
				case check.got == nil && check.want == nil:
				case check.got == nil || check.want == nil && what == "known" || !slices.Equal(check.got.Addresses, check.want) || check.got.UID != uid(tt.uid):
					t.Errorf("%s is %+v, want addresses %v of uid %d", what, check.got, check.want, tt.uid)
				}
			}
		})
	}
}

// TestAnAttachmentComesBeforeTheAPIServersAddress: the pod is enforced and a peer
// as soon as it is connected, and is no peer as soon as it is not.
func TestAnAttachmentComesBeforeTheAPIServersAddress(t *testing.T) {
	s, _ := enforcing(t, testConfig())
	web := starting("web", 9, 5)
	s.Facts(model.Batch{Cluster: "west", Changes: []model.Change{model.Set(web)}})
	s.settle()
	s.want("west", "demo/cart")
	if s.last.Pods[web.Key] != web {
		t.Errorf("pods of the node: %v", s.last.Pods)
	}
	a := attached("web", 9, 12, "10.1.3.3")
	i := model.Interface{Name: a.Interface, Index: a.Index, Addrs: a.Addrs}
	s.box.attach([]model.Attachment{a})
	s.box.tell(links(i, link(pod("west", "demo", "cart"), 7)))
	s.settle()
	s.want("west", "demo/cart", "demo/web")
	e := s.last.Desired.Rules.Endpoint(a.Interface)
	if e == nil || e.Pod != web.Key || e.UID != web.UID || !slices.Equal(e.Addrs, a.Addrs) {
		t.Errorf("endpoint %+v", e)
	}
	s.box.attach([]model.Attachment{ended(a)})
	s.settle()
	s.want("west", "demo/cart")
	if e := s.last.Desired.Rules.Endpoint(a.Interface); e == nil || e.Pod != web.Key {
		t.Errorf("what is left of the link: endpoint %+v", e)
	}
	s.Facts(list("west", model.KindPod, pod("west", "demo", "cart")))
	s.settle()
	if e := s.last.Desired.Rules.Endpoint(a.Interface); e != nil || len(s.last.Pods) != 1 {
		t.Errorf("the pod is gone: endpoint %+v, pods %v", e, s.last.Pods)
	}
}

// TestPodsOfThisNodeDoNotDependOnTheOrderOfWhatIsSaid: API server, node and CNI
// speak in any order, each the latest word last.
func TestPodsOfThisNodeDoNotDependOnTheOrderOfWhatIsSaid(t *testing.T) {
	one, two := attached("a", 1, 1, "10.1.3.1"), attached("a", 2, 2, "10.1.3.2")
	api := []func(*steps){
		func(s *steps) { s.Facts(list("west", model.KindPod, starting("a", 1, 1))) },
		func(s *steps) { s.Facts(list("west", model.KindPod, starting("a", 1, 1, "10.1.3.1"))) },
		func(s *steps) { s.Facts(list("west", model.KindPod)) },
		func(s *steps) { s.Facts(list("west", model.KindPod, starting("a", 2, 2))) },
	}
	cni := []func(*steps){
		func(s *steps) { s.box.attach([]model.Attachment{one}) },
		func(s *steps) {
			s.box.attach([]model.Attachment{one, withFact(two, starting("a", 2, 2))})
		},
		func(s *steps) { s.box.attach([]model.Attachment{ended(one), two}) },
	}
	node := []func(*steps){
		func(s *steps) { s.box.tell([]model.Interface{{Name: one.Interface, Index: 1, Addrs: one.Addrs}}) },
		func(s *steps) { s.box.tell([]model.Interface{}) },
		func(s *steps) { s.box.tell([]model.Interface{{Name: two.Interface, Index: 2, Addrs: two.Addrs}}) },
	}
	var want string
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's
		s, _ := enforcing(t, testConfig())
		queues := [][]func(*steps){slices.Clone(api), slices.Clone(cni), slices.Clone(node)}
		for len(queues) > 0 {
			i := r.IntN(len(queues))
			queues[i][0](s)
			if queues[i] = queues[i][1:]; len(queues[i]) == 0 {
				queues = slices.Delete(queues, i, i+1)
			}
			if r.IntN(2) == 0 {
				s.settle()
			}
		}
		s.settle()
		e, _ := s.last.View.Endpoint(two.Pod)
		got := s.last.Desired.Rules.Text() + fmt.Sprint(*s.last.Pods[two.Pod], *e.Endpoint, slices.Collect(s.last.View.Keys("west", model.KindPod)))
		if want == "" {
			want = got
		}
		if got != want {
			t.Fatalf("seed %d: in another order of words\n%s\nwant\n%s", seed, got, want)
		}
	}
}
