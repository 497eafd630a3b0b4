package cni

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
)

// peerIndex is the index of the other end of an interface of the pod's namespace,
// which must be a veth whose other end is in another namespace.
func peerIndex(ctx context.Context, netns, ifName string) (int, error) {
	type result struct {
		index  int
		err    error
		failed *crash
	}
	// The kernel may have to wait for its lock of interfaces, which no deadline
	// ends: the goroutine is left behind then, and ends with the process.
	done := make(chan result, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- result{failed: newCrash(r)}
			}
		}()
		index, err := readPeerIndex(netns, ifName)
		done <- result{index: index, err: err}
	}()
	select {
	case r := <-done:
		if r.failed != nil {
			panic(r.failed) // where it becomes an error
		}
		return r.index, r.err
	case <-ctx.Done():
		return 0, types.NewError(types.ErrTryAgainLater, "the kernel did not tell about "+ifName+" in "+netns+" in time", "")
	}
}

func readPeerIndex(netns, ifName string) (int, error) {
	socket, err := socketIn(netns)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(socket) }()
	answer, err := getLink(socket, ifName)
	if errors.Is(err, unix.ENODEV) {
		return 0, badLink(ifName, netns, "it is not there")
	}
	if err != nil {
		return 0, types.NewError(types.ErrTryAgainLater, "ask the kernel about "+ifName+" in "+netns, err.Error())
	}
	l, err := parseLink(answer)
	if err != nil {
		return 0, types.NewError(types.ErrInternal, "read what the kernel says of "+ifName+" in "+netns, err.Error())
	}
	switch {
	case l.kind != "veth":
		return 0, badLink(ifName, netns, fmt.Sprintf("it is of kind %q and not a veth", l.kind))
	case !l.elsewhere:
		return 0, badLink(ifName, netns, "its other end is in the pod too")
	}
	return l.peer, nil
}

func badLink(ifName, netns, why string) *types.Error {
	return types.NewError(types.ErrInvalidNetworkConfig, "interface "+ifName+" in "+netns+": "+why+
		": "+PluginType+" must be chained after a plugin that gives pods a veth, as azure-vnet does in transparent mode", "")
}

// socketIn is a netlink socket of the pod's namespace. The thread is in there for
// no longer than it takes to open it: a socket stays where it was opened.
func socketIn(netns string) (socket int, err error) {
	// Without O_NONBLOCK, opening what is not a namespace could wait for ever.
	theirs, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, badNetns(netns, err)
	}
	defer func() { _ = unix.Close(theirs) }()
	runtime.LockOSThread()
	ours, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return -1, fmt.Errorf("open own network namespace: %w", err)
	}
	defer func() { _ = unix.Close(ours) }()
	if same, err := sameFile(ours, theirs); err != nil || same {
		runtime.UnlockOSThread()
		if same {
			err = errors.New("it is the node's own: such a pod has no interface of its own")
		}
		return -1, badNetns(netns, err)
	}
	if err := unix.Setns(theirs, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return -1, badNetns(netns, err)
	}
	socket, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if back := unix.Setns(ours, unix.CLONE_NEWNET); back != nil {
		// The thread stays locked, so that it ends with the goroutine.
		if err == nil {
			_ = unix.Close(socket)
		}
		return -1, fmt.Errorf("leave the pod's network namespace: %w", back)
	}
	runtime.UnlockOSThread()
	if err != nil {
		return -1, fmt.Errorf("open a netlink socket in %s: %w", netns, err)
	}
	return socket, nil
}

// badNetns is not ErrUnknownContainer: that would tell the runtime that nothing
// has to be cleaned up, but the plugins before this one have done their part.
func badNetns(netns string, err error) *types.Error {
	return types.NewError(types.ErrInvalidNetNS, "CNI_NETNS: cannot enter network namespace "+quoted(netns), err.Error())
}

func sameFile(a, b int) (bool, error) {
	var statA, statB unix.Stat_t
	if err := errors.Join(unix.Fstat(a, &statA), unix.Fstat(b, &statB)); err != nil {
		return false, err
	}
	return statA.Dev == statB.Dev && statA.Ino == statB.Ino, nil
}

const (
	attrHeader = 4
	// netlinkTimeout is for an answer that was lost; answers come at once.
	netlinkTimeout = 2 * time.Second
)

// getLink asks for one interface and returns the kernel's message about it,
// without its header. The interface's name has been checked for its length.
func getLink(socket int, ifName string) ([]byte, error) {
	attr := binary.NativeEndian.AppendUint16(nil, uint16(attrHeader+len(ifName)+1))
	attr = binary.NativeEndian.AppendUint16(attr, unix.IFLA_IFNAME)
	attr = append(append(attr, ifName...), 0)
	attr = append(attr, make([]byte, aligned(len(attr))-len(attr))...)
	request := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+unix.SizeofIfInfomsg+len(attr)))
	request = binary.NativeEndian.AppendUint16(request, unix.RTM_GETLINK)
	request = binary.NativeEndian.AppendUint16(request, unix.NLM_F_REQUEST)
	request = append(request, make([]byte, 8+unix.SizeofIfInfomsg)...) // no number, any port, any interface
	request = append(request, attr...)

	limit := unix.NsecToTimeval(netlinkTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return nil, fmt.Errorf("limit the wait: %w", err)
	}
	if err := unix.Sendto(socket, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	buffer := make([]byte, 64<<10) // of an interface with many virtual functions
	n, err := receive(socket, buffer)
	if err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	return parseMessage(buffer[:n])
}

func receive(socket int, buffer []byte) (int, error) {
	for {
		n, _, flags, _, err := unix.Recvmsg(socket, buffer, nil, 0)
		switch {
		case errors.Is(err, unix.EINTR): // Go's own signals
		case err != nil:
			return 0, err
		case flags&unix.MSG_TRUNC != 0:
			return 0, errors.New("the message is too long")
		default:
			return n, nil
		}
	}
}

// parseMessage takes the header off a message about an interface.
func parseMessage(message []byte) ([]byte, error) {
	if len(message) < unix.SizeofNlMsghdr {
		return nil, errors.New("the message has no header")
	}
	length, kind := binary.NativeEndian.Uint32(message), binary.NativeEndian.Uint16(message[4:])
	if length < unix.SizeofNlMsghdr || uint64(length) > uint64(len(message)) {
		return nil, errors.New("the message is cut off")
	}
	body := message[unix.SizeofNlMsghdr:length]
	switch {
	case kind == unix.RTM_NEWLINK:
		return body, nil
	case kind == unix.NLMSG_ERROR && len(body) >= 4:
		return nil, unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
	}
	return nil, fmt.Errorf("the message is of type %d", kind)
}

// link is what is of interest of an interface.
type link struct {
	kind string
	peer int
	// elsewhere: the peer is in another network namespace.
	elsewhere bool
}

// parseLink reads the kernel's message about an interface.
func parseLink(body []byte) (link, error) {
	if len(body) < unix.SizeofIfInfomsg {
		return link{}, errors.New("the message is too short")
	}
	// A kernel may leave the peer's index out where it is the interface's own,
	// which happens: the two namespaces count apart.
	l := link{peer: int(int32(binary.NativeEndian.Uint32(body[4:])))}
	err := eachAttr(body[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) error {
		switch kind {
		case unix.IFLA_LINK:
			if len(value) != 4 {
				return errors.New("the peer's index has not 4 bytes")
			}
			l.peer = int(int32(binary.NativeEndian.Uint32(value)))
		case unix.IFLA_LINK_NETNSID:
			l.elsewhere = true
		case unix.IFLA_LINKINFO:
			return eachAttr(value, func(kind uint16, value []byte) error {
				if kind == unix.IFLA_INFO_KIND && len(value) > 0 {
					l.kind = string(value[:len(value)-1]) // it ends with a zero
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return link{}, err
	}
	if l.peer <= 0 {
		return link{}, fmt.Errorf("the peer's index is %d", l.peer)
	}
	return l, nil
}

// eachAttr calls f for each attribute of a message.
func eachAttr(data []byte, f func(kind uint16, value []byte) error) error {
	const flags = unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER
	for len(data) >= attrHeader {
		length := int(binary.NativeEndian.Uint16(data))
		if length < attrHeader || length > len(data) {
			return errors.New("an attribute is cut off")
		}
		if err := f(binary.NativeEndian.Uint16(data[2:])&^flags, data[attrHeader:length]); err != nil {
			return err
		}
		data = data[min(aligned(length), len(data)):]
	}
	return nil
}

func aligned(n int) int { return (n + 3) &^ 3 }
