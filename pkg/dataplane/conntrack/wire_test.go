package conntrack

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/pkg/dataplane/nfnl"
)

// message is the attributes of a connection as the kernel sends them.
func message(t testing.TB, source, target netip.Addr, mark uint32, zone bool) []byte {
	t.Helper()
	var b nfnl.Batch
	b.Begin(nfnl.Conntrack, cmdNew, 0, 0)
	for attr, a := range map[uint16]netip.Addr{attrTupleOrig: source, attrTupleReply: target} {
		at := b.Nest(attr)
		ip := b.Nest(tupleIP)
		kind := uint16(ipV4Source)
		if a.Is6() {
			kind = ipV6Source
		}
		b.Bytes(kind, a.AsSlice())
		b.Close(ip)
		b.Close(at)
	}
	b.Uint32(attrMark, mark)
	b.Uint32(attrID, 99)
	if zone {
		b.Uint16(attrZone, 7)
	}
	b.End()
	var found []byte
	for data, err := range nfnl.Messages(&b) {
		if err != nil {
			t.Fatal(err)
		}
		found = data
	}
	return found
}

func TestAConnectionIsReadAndNamed(t *testing.T) {
	for _, zone := range []bool{false, true} {
		for _, a := range [][2]string{{"10.0.0.1", "10.0.0.2"}, {"fd00::1", "fd00::2"}} {
			source, target := netip.MustParseAddr(a[0]), netip.MustParseAddr(a[1])
			e := decode(message(t, source, target, 0x12345678, zone))
			if e.source != source || e.target != target || e.mark != 0x12345678 || len(e.id) != 4 || (e.zone != nil) != zone {
				t.Errorf("%+v", e)
			}
			var b nfnl.Batch
			e.resetMark(&b, unix.AF_INET, 0xff000000)
			e.remove(&b, unix.AF_INET)
			for data, err := range nfnl.Messages(&b) {
				if err != nil {
					t.Fatal(err)
				}
				// What names it comes back as it was.
				if again := decode(data); !slices.Equal(again.tuple, e.tuple) || !slices.Equal(again.zone, e.zone) || again.source != source {
					t.Errorf("%+v", again)
				}
			}
		}
	}
}

// FuzzDecode: no message makes the decoder panic, or yields what cannot be named.
func FuzzDecode(f *testing.F) {
	f.Add(message(f, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 5, true))
	f.Add(message(f, netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), 5, false))
	f.Fuzz(func(t *testing.T, data []byte) {
		e := decode(data)
		if e.source.IsValid() && len(e.tuple) == 0 {
			t.Error("a source without a tuple")
		}
		var b nfnl.Batch
		e.resetMark(&b, 2, 1)
		e.remove(&b, 2)
		for _, err := range nfnl.Messages(&b) {
			if err != nil {
				t.Error(err)
			}
		}
	})
}
