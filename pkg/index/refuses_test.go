package index

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

func TestWhatIsRefusedOutright_1_5(t *testing.T) {
	localNode := node("west", "n", "10.8.0.1", "fd09::1")
	both := func(name string) *model.Cluster {
		return remote(name, podRanges("10.1.0.0/16"), nodeRanges("10.2.0.0/16"))
	}
	tests := []struct {
		name    string
		cluster string // asked for; empty: canada
		facts   []model.Fact
		address string
		want    model.RefusalReason
	}{
		{"nothing against it", "", []model.Fact{west(), remote("canada")}, "10.1.0.1", ""},
		{"unspecified", "", []model.Fact{west(), remote("canada")}, "0.0.0.0", model.RefusedReservedAddress},
		{"unspecified IPv6", "", []model.Fact{west(), remote("canada")}, "::", model.RefusedReservedAddress},
		{"loopback", "", []model.Fact{west(), remote("canada")}, "127.0.0.9", model.RefusedReservedAddress},
		{"link-local", "", []model.Fact{west(), remote("canada")}, "169.254.169.254", model.RefusedReservedAddress},
		{"link-local IPv6", "", []model.Fact{west(), remote("canada")}, "fe80::1", model.RefusedReservedAddress},
		{"multicast", "", []model.Fact{west(), remote("canada")}, "224.0.0.1", model.RefusedReservedAddress},
		{"the platform's", "", []model.Fact{west(), remote("canada")}, "168.63.129.16", model.RefusedReservedAddress},
		{"mapped IPv4", "", []model.Fact{west(), remote("canada")}, "::ffff:10.1.0.1", model.RefusedMalformed},
		{"with a zone", "", []model.Fact{west(), remote("canada")}, "fd00::1%eth0", model.RefusedMalformed},
		{"reserved before all else", "", []model.Fact{west(), both("canada"), node("west", "n", "127.0.0.1")}, "127.0.0.1", model.RefusedReservedAddress},
		{"a local node's", "", []model.Fact{west(), remote("canada"), localNode}, "10.8.0.1", model.RefusedLocalNode},
		{"a local node's IPv6", "", []model.Fact{west(), remote("canada"), localNode}, "fd09::1", model.RefusedLocalNode},
		{
			"a local node's, claimed by the remote's node and pod too", "",
			[]model.Fact{west(), remote("canada"), localNode, node("canada", "n", "10.8.0.1"), pod("canada", "p", "10.8.0.1")},
			"10.8.0.1", model.RefusedLocalNode,
		},
		{"a local node's before the ranges", "", []model.Fact{west(), both("canada"), node("west", "n", "10.0.0.1")}, "10.0.0.1", model.RefusedLocalNode},
		{"a remote node's is Owner's matter", "", []model.Fact{west(), remote("canada"), remote("norway"), node("norway", "n", "10.1.0.1")}, "10.1.0.1", ""},
		{"a local pod's outside of the local ranges is Owner's matter", "", []model.Fact{west(), remote("canada"), pod("west", "p", "10.1.0.1")}, "10.1.0.1", ""},
		{"a local pod range", "", []model.Fact{west(), remote("canada")}, "10.0.3.4", model.RefusedLocalRange},
		{"a local node range", "", []model.Fact{west(), remote("canada")}, "10.9.3.4", model.RefusedLocalRange},
		{"a local range that it declares too", "", []model.Fact{west(), remote("canada", podRanges("10.0.0.0/8"))}, "10.0.3.4", model.RefusedLocalRange},
		{"in its pod range", "", []model.Fact{west(), both("canada")}, "10.1.2.3", ""},
		{"in its node range", "", []model.Fact{west(), both("canada")}, "10.2.2.3", ""},
		{"outside of both", "", []model.Fact{west(), both("canada")}, "10.3.2.3", model.RefusedOutsideRanges},
		{"outside of the only ones", "", []model.Fact{west(), remote("canada", nodeRanges("10.2.0.0/16"))}, "10.1.2.3", model.RefusedOutsideRanges},
		{"a family without ranges", "", []model.Fact{west(), both("canada")}, "fd00::1", model.RefusedOutsideRanges},
		{"in another remote's range", "", []model.Fact{west(), both("canada"), remote("norway", podRanges("10.3.0.0/16"))}, "10.3.2.3", model.RefusedOutsideRanges},
		{"the local cluster itself", "west", []model.Fact{west(), localNode}, "10.8.0.1", ""},
		{"the local cluster, outside of its ranges", "west", []model.Fact{west()}, "172.16.0.1", ""},
		{"the local cluster, link-local", "west", []model.Fact{west()}, "169.254.20.10", ""},
		{"the local cluster, unspecified", "west", []model.Fact{west()}, "0.0.0.0", model.RefusedReservedAddress},
		{"a cluster that is not known", "", []model.Fact{west(), pod("canada", "p", "10.1.0.1")}, "10.1.0.1", model.RefusedOutsideRanges},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cluster := "canada"
			if test.cluster != "" {
				cluster = test.cluster
			}
			for i, x := range worlds(test.facts...) {
				got, refused := x.View().Refuses(cluster, netip.MustParseAddr(test.address))
				if got != test.want || refused != (test.want != "") {
					t.Errorf("order %d: %q, %t", i, got, refused)
				}
			}
		})
	}
	if got, refused := (View{}).Refuses("canada", netip.Addr{}); !refused {
		t.Errorf("the zero View: %q", got)
	}
}

// TestNothingThatIsRefusedOutrightIsOwned compares with what became of claims,
// through random changes.
func TestNothingThatIsRefusedOutrightIsOwned_1_5(t *testing.T) {
	var refusals, claims int
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 5))
		x := New()
		for range 150 {
			x.Apply(someChange(random))
			v := x.View()
			for e := range v.Endpoints() {
				for _, a := range e.Addresses {
					claims++
					reason, refused := v.Refuses(e.Key.Cluster, a)
					if refused {
						refusals++
					}
					if err := agrees(v, e, a, reason, refused); err != nil {
						t.Fatalf("seed %d: %v and %v: %v", seed, e.Key, a, err)
					}
				}
			}
		}
	}
	if refusals == 0 || refusals == claims {
		t.Errorf("%d of %d claims refused outright: the test shows nothing", refusals, claims)
	}
}

// agrees compares Refuses with the refusal of an endpoint's claim.
func agrees(v View, e *Entry, a netip.Addr, reason model.RefusalReason, refused bool) error {
	owner, _ := v.Owner(a)
	if refused && owner != nil && owner.Key == e.Key {
		return fmt.Errorf("refused with %s and owned", reason)
	}
	if _, known := v.Cluster(e.Key.Cluster); !known {
		return nil
	}
	for _, r := range e.Refused {
		if r.Address != a {
			continue
		}
		switch r.Reason {
		case model.RefusedDuplicate, model.RefusedNodeAddress:
			if refused {
				return fmt.Errorf("refused with %s, the claim with %s", reason, r.Reason)
			}
		case model.RefusedOutsideRanges: // perhaps only of the endpoint's kind
			if refused && reason != r.Reason {
				return fmt.Errorf("refused with %s, the claim with %s", reason, r.Reason)
			}
		default:
			if reason != r.Reason {
				return fmt.Errorf("refused with %q, the claim with %s", reason, r.Reason)
			}
		}
	}
	return nil
}

func TestViewHasTheNewestTermsOfFederatedServices_4_9(t *testing.T) {
	x := worlds(remote("canada"))[0]
	for _, change := range []func(*model.Cluster){
		func(c *model.Cluster) { c.SpareAfter = time.Minute },
		func(c *model.Cluster) { c.ServicesStaleAfter = time.Hour },
		func(c *model.Cluster) { c.ExternalAddresses = true },
	} {
		want := remote("canada", change)
		x.Apply(model.Set(want))
		if got, _ := x.View().Cluster("canada"); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}
