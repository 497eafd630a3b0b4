package nfnl

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/pkg/dataplane/nfnl/nfnltest"
)

func TestWhatIsPutIsRead(t *testing.T) {
	var b Batch
	for range 2 {
		b.Reset()
		for range 3 {
			b.Begin(IPSet, 9, 0, unix.AF_INET)
			b.Uint8(1, 200)
			b.Uint16(2, 0x1234)
			b.Uint32(3, 0x12345678)
			b.Native32(4, 0x12345678)
			b.Text(5, "name")
			at := b.Nest(6)
			b.Bytes(1|unix.NLA_F_NET_BYTEORDER, []byte{1, 2, 3, 4, 5})
			b.Close(at)
			b.End()
		}
	}
	if b.Len() != 3 {
		t.Fatal(b.Len())
	}
	count := 0
	for data, err := range Messages(&b) {
		if err != nil {
			t.Fatal(err)
		}
		count++
		var seen []uint16
		for kind, v := range Attrs(data) {
			seen = append(seen, kind)
			switch {
			case kind == 1 && Uint8(v) == 200, kind == 2 && Uint16(v) == 0x1234, kind == 3 && Uint32(v) == 0x12345678,
				kind == 4 && Native32(v) == 0x12345678, kind == 5 && Text(v) == "name":
			case kind == 6:
				for kind, v := range Attrs(v) {
					if kind != 1 || !bytes.Equal(v, []byte{1, 2, 3, 4, 5}) {
						t.Errorf("%d: %v", kind, v)
					}
				}
			default:
				t.Errorf("%d: %v", kind, v)
			}
		}
		if len(seen) != 6 {
			t.Errorf("%v", seen)
		}
	}
	if count != 3 {
		t.Errorf("%d messages", count)
	}
}

func TestValuesOfAnotherLengthAre0(t *testing.T) {
	for n := range 6 {
		v := bytes.Repeat([]byte{1}, n)
		if (Uint8(v) != 0) != (n == 1) || (Uint16(v) != 0) != (n == 2) || (Uint32(v) != 0) != (n == 4) || (Native32(v) != 0) != (n == 4) {
			t.Errorf("%d bytes", n)
		}
	}
}

func TestAnAttributeThatIsTooLongIsRefused(t *testing.T) {
	nfnltest.Isolate(t)
	c, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for name, put := range map[string]func(b *Batch){
		"one": func(b *Batch) { b.Bytes(1, make([]byte, MaxAttr+1)) },
		"nested": func(b *Batch) {
			at := b.Nest(1)
			b.Bytes(1, make([]byte, MaxAttr))
			b.Close(at)
		},
	} {
		var b Batch
		b.Begin(IPSet, 1, 0, 0)
		put(&b)
		b.End()
		if err := c.Exec(context.Background(), &b, func(Failure) {}); err == nil {
			t.Errorf("%s was sent", name)
		}
	}
}

func TestEveryRefusedMessageIsTold(t *testing.T) {
	nfnltest.Isolate(t)
	c, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	for _, last := range []bool{false, true} {
		var b Batch
		const n = 1000
		for i := range n {
			// Delete a connection that is not there; or all, of which there are none.
			b.Begin(Conntrack, 2, 0, unix.AF_INET)
			if i%2 == 0 || last {
				at := b.Nest(1)
				ip := b.Nest(1)
				b.Bytes(1, []byte{10, 0, 0, 1})
				b.Bytes(2, []byte{10, 0, 0, 2})
				b.Close(ip)
				proto := b.Nest(2)
				b.Uint8(1, 17)
				b.Uint16(2, 1)
				b.Uint16(3, 2)
				b.Close(proto)
				b.Close(at)
			}
			b.End()
		}
		var failed []Failure
		if err := c.Exec(context.Background(), &b, func(f Failure) { failed = append(failed, f) }); err != nil {
			t.Fatal(err)
		}
		want, step := n/2, 2
		if last {
			want, step = n, 1
		}
		if len(failed) != want {
			t.Fatalf("%d failed, want %d", len(failed), want)
		}
		for i, f := range failed {
			if f.Index != i*step || f.Errno != unix.ENOENT {
				t.Fatalf("%+v", f)
			}
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Exec(context.Background(), &Batch{}, nil); err != nil { // nothing to do
		t.Error(err)
	}
}

func TestADumpThatIsLeftAndARefusedQuestionDoNotDisturbTheNext(t *testing.T) {
	ctx := context.Background()
	nfnltest.Isolate(t)
	c, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for i := range 21 {
		nfnltest.Run(t, "", "ipset", "create", string(rune('a'+i)), "hash:ip")
	}
	list := func(each func([]byte) error) error {
		var b Batch
		b.Begin(IPSet, 7, unix.NLM_F_DUMP, 0)
		b.Uint8(1, 6)
		b.End()
		return c.Get(ctx, &b, each)
	}
	enough := errors.New("enough")
	for range 3 {
		if err := list(func([]byte) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("%v", err)
		}
		var b Batch
		b.Begin(IPSet, 12, 0, 0)
		b.Uint8(1, 6)
		b.Text(2, "nosuch")
		b.End()
		if err := c.Get(ctx, &b, func([]byte) error { return nil }); !errors.Is(err, unix.ENOENT) {
			t.Errorf("%v", err)
		}
		n := 0
		if err := list(func([]byte) error { n++; return nil }); err != nil || n != 21 {
			t.Errorf("%d, %v", n, err)
		}
	}
}

func FuzzMessages(f *testing.F) {
	var b Batch
	b.Begin(IPSet, 9, 0, 2)
	b.Text(5, "name")
	b.End()
	f.Add(b.b)
	f.Fuzz(func(t *testing.T, data []byte) {
		for rest, n := data, 0; len(rest) > 0; n++ {
			m, after, err := next(rest)
			if err != nil {
				return
			}
			if len(after) >= len(rest) {
				t.Fatal("no progress")
			}
			_, _ = m.errno()
			_ = m.request()
			for _, v := range Attrs(m.data) {
				_ = Text(v)
			}
			rest = after
		}
	})
}
