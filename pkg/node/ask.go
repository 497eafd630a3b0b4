package node

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/pkg/model"
)

// asker asks the kernel of one network namespace. It is for one goroutine.
type asker struct{ handle *nl.SocketHandle }

func newAsker() (asker, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE) // to nothing: for questions
	if err != nil {
		return asker{}, fmt.Errorf("open netlink: %w", err)
	}
	timeout := unix.NsecToTimeval(listTimeout.Nanoseconds())
	if err := errors.Join(socket.SetSendTimeout(&timeout), socket.SetReceiveTimeout(&timeout)); err != nil {
		socket.Close()
		return asker{}, fmt.Errorf("set netlink's timeout: %w", err)
	}
	return asker{&nl.SocketHandle{Socket: socket}}, nil
}

// Close frees what it holds.
func (a asker) Close() { a.handle.Close() }

// Find is the pod interface with an index in the network namespace of the calling
// thread, as the kernel has it now; false if there is none, or if it is not named
// as a pod's. It may be called from any goroutine.
func Find(index int) (model.Interface, bool, error) {
	a, err := newAsker()
	if err != nil {
		return model.Interface{}, false, err
	}
	defer a.Close()
	t, err := a.list()
	if err != nil {
		return model.Interface{}, false, err
	}
	for _, i := range t.interfaces() {
		if i.Index == index {
			return i, true, nil
		}
	}
	return model.Interface{}, false, nil
}

// list asks for all links, then for all routes: an address without its interface
// says nothing, an interface without address is one that is not ready.
func (a asker) list() (*table, error) {
	var err error
	for range listTries {
		var t *table
		if t, err = a.dump(); !errors.Is(err, nl.ErrDumpInterrupted) {
			return t, err
		}
	}
	return nil, err
}

func (a asker) dump() (*table, error) {
	var links []link
	data, err := a.ask(unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC))
	if err != nil {
		return nil, fmt.Errorf("list network links: %w", err)
	}
	for _, m := range data {
		l, ok, err := parseLink(m)
		if err != nil {
			return nil, err
		}
		if ok {
			links = append(links, l)
		}
	}
	var routes []route
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		msg := nl.NewRtMsg()
		msg.Family = family
		data, err := a.ask(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, msg)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, m := range data {
			r, ok, err := parseRoute(m)
			if err != nil {
				return nil, err
			}
			if ok {
				routes = append(routes, r)
			}
		}
	}
	return fill(links, routes), nil
}

func (a asker) ask(request int, answer uint16, body nl.NetlinkRequestData) ([][]byte, error) {
	req := nl.NewNetlinkRequest(request, unix.NLM_F_DUMP)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: a.handle}
	req.AddData(body)
	return req.Execute(unix.NETLINK_ROUTE, answer)
}
