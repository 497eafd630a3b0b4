package ipset

import (
	"slices"
	"testing"

	"github.com/overland-net/overland/pkg/dataplane/nfnl"
	"github.com/overland-net/overland/pkg/desired"
)

// body is the attributes of the only message of a batch.
func body(t testing.TB, b *nfnl.Batch) []byte {
	t.Helper()
	var all []byte
	for m, err := range nfnl.Messages(b) {
		if err != nil {
			t.Fatal(err)
		}
		all = m
	}
	return all
}

func encoded(t testing.TB, s Set, list []Element) []byte {
	var b nfnl.Batch
	e := encoder{protocol: protocolNewest}
	e.begin(&b, cmdAdd, 0, familyNumber(s.Family), s.Name)
	at := b.Nest(attrADT)
	for i, e := range list {
		element(&b, s, e, uint32(i))
	}
	b.Close(at)
	b.End()
	return body(t, &b)
}

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	for _, s := range kinds() {
		want := elements(s, 500)
		b := encoded(t, s, want)
		var got []Element
		if err := decodeElements(b, s.Type, func(e Element) error { got = append(got, e); return nil }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d of %d", s.Name, len(got), len(want))
		}
		if h := decodeHeader(b); h.Name != s.Name {
			t.Errorf("%+v", h)
		}
	}
}

func TestHashSizeIsAPowerOfTwoNearTheExpectedNumber(t *testing.T) {
	for n, want := range map[int]uint32{-1: 64, 0: 64, 64: 64, 65: 128, 1000: 1024, 100_000: 131072, 1 << 20: 1 << 20, 1 << 30: 1 << 20} {
		if got := hashSize(n); got != want {
			t.Errorf("%d elements: %d buckets, want %d", n, got, want)
		}
	}
}

func TestNoElementIsLargerThanExpected(t *testing.T) {
	for _, s := range kinds() {
		e := nthElement(s.Type, s.Family, 4)
		var b nfnl.Batch
		b.Begin(nfnl.IPSet, cmdAdd, 0, 0)
		before := b.Size()
		element(&b, s, e, 1)
		if n := b.Size() - before; n > largest {
			t.Errorf("%s: %d bytes", s.Name, n)
		}
	}
}

// FuzzDecode: no message makes the decoders panic, and what is read as an element
// has the form of one.
func FuzzDecode(f *testing.F) {
	for _, s := range kinds() {
		f.Add(encoded(f, s, elements(s, 3)), string(s.Type))
	}
	f.Add([]byte{8, 0, 7, 0x80, 4, 0, 1, 0x80}, "")
	f.Fuzz(func(t *testing.T, b []byte, typ string) {
		_ = decodeHeader(b)
		_, _ = guilty(b)
		n := 0
		_ = decodeElements(b, Type(typ), func(e Element) error {
			if n++; n > len(b)/4 {
				t.Fatal("more elements than attributes")
			}
			_ = e.String()
			_ = e.check(Set{Name: "s", Type: Type(typ), Family: desired.IPv4})
			return nil
		})
	})
}
