package cni

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/containernetworking/cni/pkg/types"
)

// message is a kernel's message about interface 7.
func message(attrs ...[]byte) []byte {
	body := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(body[4:], 7)
	for _, a := range attrs {
		body = append(body, a...)
	}
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	m = binary.NativeEndian.AppendUint16(m, unix.RTM_NEWLINK)
	return append(append(m, make([]byte, 10)...), body...)
}

func attr(kind uint16, value []byte) []byte {
	a := binary.NativeEndian.AppendUint16(nil, uint16(attrHeader+len(value)))
	a = binary.NativeEndian.AppendUint16(a, kind)
	a = append(a, value...)
	return append(a, make([]byte, aligned(len(a))-len(a))...)
}

func index(i int32) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(i)) }

func kindOf(name string) []byte {
	return attr(unix.IFLA_LINKINFO|unix.NLA_F_NESTED, attr(unix.IFLA_INFO_KIND, append([]byte(name), 0)))
}

func vethMessage() []byte {
	return message(attr(unix.IFLA_IFNAME, []byte("eth0\x00")), attr(unix.IFLA_LINK, index(9)), kindOf("veth"), attr(unix.IFLA_LINK_NETNSID, index(0)))
}

func TestLinkMessagesAreRead(t *testing.T) {
	cut := vethMessage()
	long := binary.NativeEndian.AppendUint32(nil, 1000)
	failed := binary.NativeEndian.AppendUint32(nil, 20)
	failed = append(binary.NativeEndian.AppendUint16(failed, unix.NLMSG_ERROR), make([]byte, 10)...)
	failed = binary.NativeEndian.AppendUint32(failed, ^uint32(unix.ENODEV)+1)
	tests := []struct {
		name string
		data []byte
		want link
		err  string
	}{
		{"veth", vethMessage(), link{"veth", 9, true}, ""},
		// As kernels have it that leave out what equals the interface's own index.
		{"veth without the peer's index", message(kindOf("veth"), attr(unix.IFLA_LINK_NETNSID, index(0))), link{"veth", 7, true}, ""},
		{"veth within", message(attr(unix.IFLA_LINK, index(9)), kindOf("veth")), link{"veth", 9, false}, ""},
		{"no kind", message(), link{"", 7, false}, ""},
		{"peer gone", message(attr(unix.IFLA_LINK, index(0)), kindOf("veth")), link{}, "the peer's index is 0"},
		{"peer below zero", message(attr(unix.IFLA_LINK, index(-1))), link{}, "the peer's index is -1"},
		{"short index", message(attr(unix.IFLA_LINK, []byte{1})), link{}, "the peer's index has not 4 bytes"},
		{"cut attribute", message([]byte{255, 0, 1, 0}), link{}, "an attribute is cut off"},
		{"attribute without length", message([]byte{0, 0, 1, 0}), link{}, "an attribute is cut off"},
		{"cut", cut[:len(cut)-1], link{}, "the message is cut off"},
		{"longer than it is", append(long, make([]byte, 12)...), link{}, "the message is cut off"},
		{"no header", cut[:15], link{}, "the message has no header"},
		{"no interface", failed, link{}, unix.ENODEV.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got link
			body, err := parseMessage(tt.data)
			if err == nil {
				got, err = parseLink(body)
			}
			if text := errorText(err); text != tt.err || got != tt.want {
				t.Errorf("%+v, %q; want %+v, %q", got, text, tt.want, tt.err)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestPeerIsThatOfTheOtherNamespace(t *testing.T) {
	n := newNode(t)
	ns := newNamespace(t)
	want, err := n.connect(ns, "azv1")
	if err != nil {
		t.Fatal(err)
	}
	err = inNamespace(ns, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "in"
		pair := netlink.NewVeth(attrs)
		pair.PeerName = "out"
		return netlink.LinkAdd(pair)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ifName string
		want   int
		code   uint
	}{
		{"eth0", want, 0},
		{"in", 0, types.ErrInvalidNetworkConfig},
		{"lo", 0, types.ErrInvalidNetworkConfig},
		{"eth1", 0, types.ErrInvalidNetworkConfig},
	} {
		before := currentNamespace(t)
		got, err := peerIndex(t.Context(), pathOf(ns), tt.ifName)
		if code := codeOf(t, err); code != tt.code || got != tt.want {
			t.Errorf("%s: %d, %v; want %d, code %d", tt.ifName, got, err, tt.want, tt.code)
		}
		if after := currentNamespace(t); after != before {
			t.Errorf("%s: the thread is in %s and was in %s", tt.ifName, after, before)
		}
	}
}

func currentNamespace(t *testing.T) string {
	t.Helper()
	ns, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	return ns.UniqueId()
}

func TestPeerIsNotWaitedForLongerThanTheDeadline(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 { // either may come first, but never a wrong answer
		if i, err := peerIndex(ctx, "/nonexistent", "eth0"); err == nil {
			t.Fatalf("peer %d", i)
		}
	}
}
