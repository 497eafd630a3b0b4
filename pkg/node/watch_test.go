package node

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/pkg/model"
)

// inNamespace runs f on a thread in a network namespace of its own, which ends
// with the thread.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces: run it as root")
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with us
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			defer close(done)
			f()
			return
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
}

// heard is what a Watcher told last.
type heard struct {
	mu    sync.Mutex
	list  []model.Interface
	times int
	news  chan struct{}
}

func (h *heard) deliver(list []model.Interface) {
	h.mu.Lock()
	h.list, h.times = list, h.times+1
	h.mu.Unlock()
	select {
	case h.news <- struct{}{}:
	default:
	}
}

func (h *heard) await(t *testing.T, what string, want func([]model.Interface) bool) {
	t.Helper()
	late := time.After(20 * time.Second) // far beyond what it takes: it only ends a failing test
	for {
		h.mu.Lock()
		list := h.list
		ok := h.times > 0 && want(list)
		h.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-h.news:
		case <-late:
			t.Errorf("%s: never told; the last was %v", what, list)
			runtime.Goexit()
		}
	}
}

func (h *heard) awaitText(t *testing.T, what, want string) {
	t.Helper()
	h.await(t, what, func(list []model.Interface) bool { return names(list) == want })
}

// names is a list without the indexes, which the kernel chooses.
func names(list []model.Interface) string {
	var text []string
	for _, i := range list {
		text = append(text, fmt.Sprint(i.Name, i.Addrs))
	}
	return fmt.Sprint(text)
}

// watching starts a Watcher in the thread's namespace.
func watching(t *testing.T) (*Watcher, *heard, *netlink.Handle) {
	t.Helper()
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	h := &heard{news: make(chan struct{}, 1)}
	w, err := NewWatcher(h.deliver, logrus.NewEntry(logger))
	if err != nil {
		t.Error(err)
		runtime.Goexit()
	}
	kernel, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Error(err)
		runtime.Goexit()
	}
	t.Cleanup(kernel.Close)
	return w, h, kernel
}

func run(t *testing.T, w *Watcher) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// kernelOf makes links and routes; it fails the test by itself.
type kernelOf struct {
	t *testing.T
	h *netlink.Handle
}

func (k kernelOf) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Error(err)
		runtime.Goexit()
	}
}

func (k kernelOf) link(name string) netlink.Link {
	k.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := netlink.NewVeth(attrs)
	veth.PeerName = name + "2"
	k.must(k.h.LinkAdd(veth))
	l, err := k.h.LinkByName(name)
	k.must(err)
	k.must(k.h.LinkSetUp(l))
	return l
}

func hostRoute(addr string, l netlink.Link) *netlink.Route {
	ip := net.ParseIP(addr)
	bits := 128
	if ip.To4() != nil {
		bits = 32
	}
	return &netlink.Route{
		LinkIndex: l.Attrs().Index, Dst: &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)}, Scope: netlink.SCOPE_LINK,
	}
}

func (k kernelOf) route(addr string, l netlink.Link) {
	k.t.Helper()
	k.must(k.h.RouteAdd(hostRoute(addr, l)))
}

func TestWatcherFollowsTheKernel(t *testing.T) {
	inNamespace(t, func() {
		w, h, handle := watching(t)
		k := kernelOf{t, handle}
		before := k.link("azv000000000aa")
		k.route("10.0.0.1", before)
		run(t, w)
		h.awaitText(t, "what was there before", "[azv000000000aa[10.0.0.1]]")

		after := k.link("azv000000000bb")
		h.awaitText(t, "a new link", "[azv000000000aa[10.0.0.1] azv000000000bb[]]")
		k.route("10.0.0.2", after)
		k.route("fd00::2", after)
		k.must(k.h.RouteAdd(&netlink.Route{
			LinkIndex: after.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4(10, 9, 0, 0), Mask: net.CIDRMask(24, 32)}, Scope: netlink.SCOPE_LINK,
		}))
		other := hostRoute("10.0.0.3", after)
		other.Table = 77
		k.must(k.h.RouteAdd(other))
		h.awaitText(t, "routes to hosts, of the main table", "[azv000000000aa[10.0.0.1] azv000000000bb[10.0.0.2 fd00::2]]")

		k.must(k.h.RouteReplace(hostRoute("10.0.0.1", after)))
		h.awaitText(t, "a replaced route", "[azv000000000aa[] azv000000000bb[10.0.0.1 10.0.0.2 fd00::2]]")
		k.must(k.h.RouteReplace(hostRoute("10.0.0.1", before)))
		k.must(k.h.RouteDel(hostRoute("10.0.0.2", after)))
		h.awaitText(t, "a deleted route", "[azv000000000aa[10.0.0.1] azv000000000bb[fd00::2]]")

		k.must(k.h.LinkSetDown(before))
		h.awaitText(t, "a link that is down", "[azv000000000aa[] azv000000000bb[fd00::2]]")
		k.must(k.h.LinkSetName(before, "azvother"))
		h.awaitText(t, "a renamed link", "[azv000000000bb[fd00::2] azvother[]]")
		k.must(k.h.LinkSetName(before, "eth7"))
		h.awaitText(t, "no pod interface any more", "[azv000000000bb[fd00::2]]")
		k.must(k.h.LinkDel(after))
		h.awaitText(t, "a deleted link", "[]")
	})
}

func TestALinkThatIsMadeAnewIsAnotherInterface(t *testing.T) {
	inNamespace(t, func() {
		w, h, handle := watching(t)
		k := kernelOf{t, handle}
		run(t, w)
		old := k.link(pod)
		k.route("10.0.0.1", old)
		h.awaitText(t, "the first", "["+pod+"[10.0.0.1]]")
		k.must(k.h.LinkDel(old))
		anew := k.link(pod)
		k.route("10.0.0.1", anew)
		want := []model.Interface{{Name: pod, Index: anew.Attrs().Index}}
		h.await(t, "the second", func(list []model.Interface) bool {
			return len(list) == 1 && list[0].Index == want[0].Index && len(list[0].Addrs) == 1
		})
	})
}

// TestNothingIsLostInAnOverrun makes more events than the socket holds while
// nobody reads them.
func TestNothingIsLostInAnOverrun(t *testing.T) {
	inNamespace(t, func() {
		w, h, handle := watching(t)
		k := kernelOf{t, handle}
		k.must(w.events.SetReceiveBufferSize(4096, true))
		first := k.link("azv000000000aa")
		for i := range 200 {
			k.route(fmt.Sprintf("10.1.0.%d", i), first)
		}
		w.relist(time.Now()) // so that only events can tell of what comes now
		w.told, h.times = false, 0
		for i := range 200 {
			k.route(fmt.Sprintf("10.2.0.%d", i), first)
			k.must(k.h.RouteDel(hostRoute(fmt.Sprintf("10.1.0.%d", i), first)))
		}
		second := k.link("azv000000000bb")
		run(t, w)
		h.await(t, "all after an overrun", func(list []model.Interface) bool {
			return len(list) == 2 && len(list[0].Addrs) == 200 && list[0].Addrs[0].String() == "10.2.0.0" &&
				list[1].Index == second.Attrs().Index
		})
	})
}

// TestWhatChangesWhileAnOverrunIsReadIsNotLost: until all that waits is read, the
// kernel drops what comes, and says so once only.
func TestWhatChangesWhileAnOverrunIsReadIsNotLost(t *testing.T) {
	inNamespace(t, func() {
		w, h, handle := watching(t)
		k := kernelOf{t, handle}
		k.must(w.events.SetReceiveBufferSize(4096, true))
		first := k.link("azv000000000aa")
		for i := range 200 {
			k.route(fmt.Sprintf("10.1.0.%d", i), first)
		}
		w.stale = false
		for !w.stale {
			k.must(w.receive(time.Millisecond))
		}
		w.relist(time.Now())
		second := k.link("azv000000000bb")
		k.route("10.2.0.1", second)
		run(t, w)
		h.await(t, "what came after the list", func(list []model.Interface) bool {
			return len(list) == 2 && len(list[1].Addrs) == 1
		})
	})
}

// TestManyChangesEndInTheTruth makes pods come and go quickly.
func TestManyChangesEndInTheTruth(t *testing.T) {
	inNamespace(t, func() {
		w, h, handle := watching(t)
		k := kernelOf{t, handle}
		run(t, w)
		var links []netlink.Link
		for i := range 60 {
			l := k.link(fmt.Sprintf("azv%011x", i))
			k.route(fmt.Sprintf("10.0.0.%d", i), l)
			k.route(fmt.Sprintf("fd00::%x", i+1), l)
			links = append(links, l)
		}
		for i, l := range links {
			if i%3 == 0 {
				k.must(k.h.LinkDel(l))
			}
		}
		list, err := w2(t).List()
		k.must(err)
		h.await(t, "what a list says", func(told []model.Interface) bool { return slices.EqualFunc(told, list, equal) })
		if len(list) != 40 {
			t.Errorf("%d interfaces", len(list))
		}
	})
}

// w2 is another Watcher, to list with.
func w2(t *testing.T) *Watcher {
	t.Helper()
	w, _, _ := watching(t)
	t.Cleanup(w.Close)
	return w
}
