package fabric

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/test/lab/ns"
)

// queueLength bounds the packets under way in one direction; more are lost, as
// on a real link. 8,192 full packets are 12 MB.
const queueLength = 8192

// maxPacket is the largest packet a TUN device hands over: 65,535 bytes of IP.
const maxPacket = 1 << 16

// tun is a queue between two routers, for what this kernel cannot do itself (it
// has no netem): packets are read from a TUN device in one router, wait, and
// are written to a TUN device in the other.
type tun struct {
	name    string
	in, out *os.File
	queue   chan packet

	mu    sync.Mutex
	state Impairment
	next  time.Time // when the link is free again, under a rate limit
}

type packet struct {
	data []byte
	due  time.Time
}

// tun finds or makes the queue of a direction. It lives as long as the lab.
func (f *Fabric) tun(p *peer) (*tun, error) {
	key := direction{p.from.Name, p.to.Name}
	if t, ok := f.tuns[key]; ok {
		return t, nil
	}
	// The device's name says where its packets come from or go to; a router
	// has both kinds for each peer.
	t := &tun{name: "to-" + p.to.Name, queue: make(chan packet, queueLength)}
	var err error
	if t.in, err = f.openTun(p.from.Router, t.name); err != nil {
		return nil, err
	}
	if t.out, err = f.openTun(p.to.Router, "of-"+p.from.Name); err != nil {
		return nil, errors.Join(err, t.in.Close())
	}
	go t.read()
	go t.write()
	f.tuns[key] = t
	return t, nil
}

func (f *Fabric) openTun(namespace, name string) (*os.File, error) {
	var file *os.File
	err := ns.Net(f.Path(namespace)).Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("open /dev/net/tun: %w", err)
		}
		req, err := unix.NewIfreq(name)
		if err == nil {
			req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
		}
		if err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		file = os.NewFile(uintptr(fd), name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tun device %s in %s: %w", name, namespace, err)
	}
	err = f.at(namespace, func(h *netlink.Handle) error {
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		return h.LinkSetUp(link)
	})
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func (t *tun) shape(state Impairment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state = state
}

// admit decides a packet's fate: when it is due, or that it is lost.
func (t *tun) admit(size int, now time.Time) (due time.Time, lost bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.Loss > 0 && rand.Float64() < t.state.Loss {
		return time.Time{}, true
	}
	start := now
	if t.state.Rate > 0 {
		if t.next.After(now) {
			start = t.next
		}
		start = start.Add(time.Duration(float64(size) / float64(t.state.Rate) * float64(time.Second)))
		t.next = start
	}
	return start.Add(t.state.Delay), false
}

// read ends when the device is closed, which the end of the process does.
func (t *tun) read() {
	buffer := make([]byte, maxPacket)
	for {
		n, err := t.in.Read(buffer)
		if err != nil {
			close(t.queue)
			return
		}
		due, lost := t.admit(n, time.Now())
		if lost {
			continue
		}
		select {
		case t.queue <- packet{data: append([]byte(nil), buffer[:n]...), due: due}:
		default: // the queue is full
		}
	}
}

func (t *tun) write() {
	for p := range t.queue {
		time.Sleep(time.Until(p.due))
		// A packet that the other router does not take is lost, as on a link.
		_, _ = t.out.Write(p.data)
	}
}

// isAbsent reports whether netlink said that there is no such thing.
func isAbsent(err error) bool { return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) }
