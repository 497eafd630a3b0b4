package policy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overland-net/overland/pkg/desired"
	"github.com/overland-net/overland/pkg/model"
)

// endpoint is a pod or node that collides with others in name and address.
func (c chance) endpoint(cluster string) *model.Endpoint {
	address := func() string {
		if c.IntN(4) == 0 {
			return fmt.Sprintf("fd00::%d", c.IntN(6))
		}
		return fmt.Sprintf("10.1.0.%d", c.IntN(8))
	}
	if c.IntN(8) == 0 {
		return nodeAt(cluster+"/"+c.one("node-1", "node-2"), c.one("a=x", ""), address())
	}
	ports := []string{"", "web TCP 80", "web TCP 80; web TCP 81", "dns UDP 53; web TCP 90", "web UDP 80"}
	at := cluster + "/" + c.one("node-1", "node-1", "node-2") + "/" + c.one("n1", "n2") + "/" + c.one("p1", "p2", "p3")
	e := podAt(at, c.one("", "a=x", "a=y; b=x", "b=y"), address()+" "+address(), c.one(ports...))
	if e.Addresses[0] == e.Addresses[1] {
		e.Addresses = e.Addresses[:1]
	}
	e.UID = model.ParseUID(c.one("u1", "u2"))
	e.Created, e.Terminating = int64(c.IntN(3)), c.IntN(6) == 0
	return e
}

func (c chance) peerOf() model.PolicyPeer {
	switch c.IntN(8) {
	case 0:
		return block(c.one("10.1.0.0/24", "10.1.0.4/30", "0.0.0.0/0", "::/0", "fd00::/8"))
	case 1:
		return block(c.one("10.1.0.0/24", "0.0.0.0/0"), c.one("10.1.0.4/30", "10.1.0.1/32", "10.1.0.0/16", "fd00::/8"))
	case 2:
		return from("overland.dev/kind=Node")
	}
	p := model.PolicyPeer{Pods: c.selector(false), Namespaces: c.selector(false)}
	return p
}

func (c chance) ruleOf() model.PolicyRule {
	var peers []model.PolicyPeer
	for range c.IntN(4) {
		peers = append(peers, c.peerOf())
	}
	r := on(c.one("", "TCP 80", "TCP web", "TCP web; UDP dns; TCP 80-90", "UDP", "SCTP 1; TCP web"), peers...)
	if c.IntN(20) == 0 {
		r.AnyPeer, r.Peers = false, nil
	}
	return r
}

func (c chance) fact() model.Fact {
	cluster := c.one("west", "west", "west", "canada")
	switch c.IntN(8) {
	case 0:
		n := ns(cluster, c.one("n1", "n2"), c.one("", "a=x", "b=x"))
		n.PeerScope = c.one("", "", "mesh")
		return n
	case 1, 2:
		p := np(c.one("n1", "n2")+"/"+c.one("a", "b", "c", "d"), c.one("", "a=x", "a in x,y", "b=x", "!b"))
		p.PeerScope = c.one("", "", "mesh", "odd")
		for range c.IntN(3) {
			in(p, append(p.IngressRules, c.ruleOf())...)
		}
		if c.IntN(2) == 0 {
			for range c.IntN(3) {
				out(p, append(p.EgressRules, c.ruleOf())...)
			}
		}
		return p
	case 3:
		if c.IntN(4) == 0 {
			return &model.Cluster{Name: "canada", Created: 1, InContact: c.IntN(2) == 0, Labels: labelled(c.one("", "region=x"))}
		}
	}
	return c.endpoint(cluster)
}

// nodeFacts gives most pods their interfaces, and some that are nobody's.
func (c chance) nodeFacts(facts map[model.Key]model.Fact) NodeFacts {
	n := NodeFacts{Protected: c.IntN(2) == 0, OwnNodeEgress: c.IntN(2) == 0}
	for _, i := range plugs(facts) {
		switch c.IntN(6) {
		case 0:
		case 1:
			i.Addrs = addresses("10.1.0.3")
			fallthrough
		default:
			n.Interfaces = append(n.Interfaces, i)
		}
	}
	n.Interfaces = append(n.Interfaces, model.Interface{Name: "azw" + c.one("1", "2"), Index: 5, Addrs: addresses("10.1.0.2")})
	n.Grandfathered = []model.Interface{{Name: "azw1", Index: 4 + c.IntN(2)}}
	n.Exceptions = map[string][]netip.Prefix{"n1": {prefix("192.168.3.1/16"), prefix("192.168.0.0/16")}}
	return n
}

func meaning(s *desired.State) string {
	return (&desired.State{Rules: s.Rules, Sets: s.Sets}).Text()
}

// TestStateDependsOnPresentFactsOnly leads Sets along different roads to the same
// facts: the State means the same, is valid, and is the same value as long as
// nothing changes. What is kept from State to State equals what is made anew.
func TestStateDependsOnPresentFactsOnly(t *testing.T) {
	for seed := range uint64(300) {
		c := chance{rand.New(rand.NewPCG(seed, 4))}
		cfg := west()
		cfg.Mesh = c.IntN(3) == 0
		if c.IntN(2) == 0 {
			cfg.Limits = Limits{Selectors: 1 + c.IntN(4), Members: 1 + c.IntN(12), Rules: 1 + c.IntN(30)}
		}
		b := emptyBed(t, cfg)
		b.tell(&model.Cluster{Name: "west", Local: true, InContact: true, Labels: cfg.ClusterLabels})
		for range 60 {
			switch c.IntN(6) {
			case 0:
				b.node = c.nodeFacts(b.facts)
				b.set.Node(b.node)
			case 1:
				if keys := slices.SortedFunc(maps.Keys(b.facts), compareKeys); len(keys) > 1 {
					if k := keys[c.IntN(len(keys))]; k != model.ClusterKey("west") {
						b.gone(k)
						forgetCluster(b.facts, k)
					}
				}
			default:
				b.tell(c.fact())
			}
			switch c.IntN(6) {
			case 0, 1:
				b.step(seed)
			case 2:
				track(b.set, b.index) // as an agent does until it may enforce
			}
		}
		b.step(seed)
		b.sameAsAnew(seed, c)
	}
}

// forgetCluster takes the facts of a cluster that is gone, as the index does.
func forgetCluster(facts map[model.Key]model.Fact, k model.Key) {
	if k.Kind == model.KindCluster {
		maps.DeleteFunc(facts, func(o model.Key, _ model.Fact) bool { return o.Cluster == k.Cluster })
	}
}

// step makes a State, whose parts are the last one's wherever they are equal.
func (b *bed) step(seed uint64) {
	b.t.Helper()
	old := b.last
	now := b.state()
	if b.state() != now {
		b.t.Fatalf("seed %d: nothing has changed and yet there is another State", seed)
	}
	if old == nil {
		return
	}
	if old.Rules != now.Rules && old.Rules.Text() == now.Rules.Text() {
		b.t.Fatalf("seed %d: other Rules that say the same:\n%s", seed, now.Rules.Text())
	}
	if old.Rules == now.Rules && old.Sets == now.Sets && old.Released == now.Released && old != now {
		b.t.Fatalf("seed %d: another State of the same parts", seed)
	}
}

func (b *bed) sameAsAnew(seed uint64, c chance) {
	b.t.Helper()
	other := emptyBed(b.t, b.set.config)
	facts := factsInOrder(b.facts)
	c.Shuffle(len(facts), func(i, j int) { facts[i], facts[j] = facts[j], facts[i] })
	for _, f := range facts {
		other.apply(f)
		if c.IntN(10) == 0 {
			other.apply(f)
			other.set.Update()
		}
	}
	// What Update said above is lost to the index: it must be told again.
	for s := range other.set.Wanted() {
		other.index.Track(s)
	}
	for key := range other.set.wanted {
		if key.Port != "" {
			other.index.TrackPorts(key)
		}
	}
	other.node = b.node
	other.set.Node(other.node)
	other.state()
	if diff := cmp.Diff(meaning(other.last), meaning(b.last)); diff != "" {
		b.t.Fatalf("seed %d: -made anew +made step by step\n%s", seed, diff)
	}
	if diff := cmp.Diff(other.problems(), b.problems()); diff != "" {
		b.t.Fatalf("seed %d: problems: -made anew +made step by step\n%s", seed, diff)
	}
	if !slices.Equal(other.set.Waiting(), b.set.Waiting()) {
		b.t.Fatalf("seed %d: %v and %v wait", seed, other.set.Waiting(), b.set.Waiting())
	}
}

// TestWhatIsGoneLeavesNothing: all facts go, and the Set is as new.
func TestWhatIsGoneLeavesNothing(t *testing.T) {
	c := chance{rand.New(rand.NewPCG(7, 7))}
	b := emptyBed(t, west())
	b.tell(&model.Cluster{Name: "west", Local: true})
	for range 200 {
		b.tell(c.fact())
	}
	b.plug()
	b.state()
	for _, k := range slices.SortedFunc(maps.Keys(b.facts), compareKeys) {
		b.gone(k)
	}
	b.plug()
	s := b.state()
	if want := (&desired.State{Rules: &desired.Rules{Protected: true}}).Text(); meaning(s) != want {
		t.Errorf("left: %s", s.Text())
	}
	x := b.set
	if n := len(x.spaces) + len(x.live) + len(x.wanted) + len(x.before) + len(x.fresh) + len(x.unsettled) + len(x.unweighed) + len(x.interfaces) + len(x.lists) + len(x.texts); n != 0 {
		t.Errorf("something is left: %+v", x)
	}
}

func TestRemoteChangeKeepsRulesAndSharesSets(t *testing.T) {
	p := in(np("shop/p", ""), on("TCP http", spaces("overland.dev/cluster; env=prod")), on("", from("app=web")))
	b := newBed(t, p, out(np("shop/q", ""), on("TCP http", from("overland.dev/cluster=canada"))))
	first := b.state()
	b.tell(podAt("canada/n/shop/new", "app=x", "10.9.0.30", "http TCP 1234"))
	second := b.state()
	if first.Rules != second.Rules || first.Sets == second.Sets {
		t.Fatal("a remote pod must change sets, and nothing but sets")
	}
	changed := 0
	for id, members := range second.Sets.All() {
		if was, _ := first.Sets.Get(id); was != members {
			changed++
		}
	}
	if changed != 2 {
		t.Errorf("%d sets have changed, expected the addresses and the ports of IPv4", changed)
	}
	b.tell(podAt("canada/n/shop/new", "app=y", "10.9.0.30", "http TCP 1234"))
	if b.state() != second {
		t.Error("a label that nothing asks for has made a State")
	}
	b.gone(model.PodKey("canada", "shop", "new"))
	third := b.state()
	if meaning(third) != meaning(first) || third.Rules != first.Rules {
		t.Error("there and back is somewhere else")
	}
	if gen, ok := third.Released.Get(netip.MustParseAddr("10.9.0.30")); !ok || gen != third.Gen {
		t.Errorf("released at %d, %v", gen, ok)
	}
}

func TestPolicyWrittenAgainWithoutChangeKeepsRules(t *testing.T) {
	b := newBed(t, in(np("shop/p", ""), on("TCP http", from("app=web"))))
	first := b.state()
	again := in(np("shop/p", ""), on("TCP http", from("app=web")))
	again.Generation = 7
	b.tell(again)
	if b.state() != first {
		t.Error("another generation has made a State")
	}
	for p := range b.set.Active() {
		if p != again {
			t.Error("the old object is kept")
		}
	}
	b.gone(again.Key)
	b.tell(again)
	if b.state() != first {
		t.Error("there and back has made a State")
	}
	b.gone(again.Key)
	b.set.Update()
	b.tell(again)
	if b.state() != first {
		t.Error("there and back, with an Update between, has made a State")
	}
}

func TestPodsShareSidesAndLists(t *testing.T) {
	b := newBed(t, in(np("shop/all", ""), on("TCP http; TCP 1", from("app=web"))), in(np("ops/all", ""), on("TCP 1", podsIn("app=web", "kubernetes.io/metadata.name=shop"))))
	b.tell(podAt("west/node-1/shop/cart2", "app=cart", "10.1.0.30", "http TCP 8080"))
	b.plug()
	s := b.state()
	side := func(name string) *desired.Side {
		words := strings.Split(name, "/")
		return s.Rules.Endpoint(InterfaceName(words[0], words[1])).Ingress
	}
	if side("shop/cart") != side("shop/cart2") {
		t.Error("the same policies and named ports, but another Side")
	}
	if side("shop/cart") == side("shop/db") || side("shop/cart").List == side("shop/db").List {
		t.Error("other numbers, but the same Side")
	}
	b.tell(in(np("shop/all", ""), on("TCP 1", from("app=web"))))
	s = b.state()
	if side("shop/cart") != side("shop/db") {
		t.Error("no named port any more, but another Side")
	}
	if side("shop/cart").List != side("ops/admin").List || side("shop/cart") == side("ops/admin") {
		t.Error("equal rules of other policies share the List and not the Side")
	}
}

func TestReleasedIsBounded(t *testing.T) {
	s := NewSet(west(), "node-1")
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	var last *desired.State
	x := emptyBed(t, west()).index.View()
	for gen := range uint64(200) {
		var released []netip.Addr
		for i := range 1000 {
			released = append(released, address(int(gen)*1000+i))
		}
		last = s.State(gen+1, x, released)
		if err := last.Validate(); err != nil {
			t.Fatal(err)
		}
		if last.Released.Len() > mostReleased || last.ReleasedFloor+20 > gen && gen > 60 {
			t.Fatalf("at %d: %d released, floor %d", gen, last.Released.Len(), last.ReleasedFloor)
		}
	}
	for a, gen := range last.Released.All() {
		b := a.As4()
		if n := int(b[1])<<16 | int(b[2])<<8 | int(b[3]); uint64(n/1000+1) != gen {
			t.Fatalf("%s at %d", a, gen)
		}
	}
	if n := last.Released.Len(); n != int(last.Gen-last.ReleasedFloor)*1000 {
		t.Errorf("%d released since %d", n, last.ReleasedFloor)
	}
	var all []netip.Addr
	for i := range mostReleased + 1 {
		all = append(all, address(i))
	}
	if last = s.State(1000, x, all); last.ReleasedFloor != 1000 || last.Released.Len() != 0 {
		t.Errorf("too many at once: floor %d, %d released", last.ReleasedFloor, last.Released.Len())
	}
	if s.State(1001, x, nil) != last {
		t.Error("nothing was released, but there is another State")
	}
}
