package netprobe

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseTarget(t *testing.T) {
	for raw, want := range map[string]Target{
		"tcp://10.0.0.1:80":                    {Scheme: "tcp", Host: "10.0.0.1", Port: 80},
		"tcp://[fd00::1]:80":                   {Scheme: "tcp", Host: "fd00::1", Port: 80},
		"udp://web.default:53?size=60000":      {Scheme: "udp", Host: "web.default", Port: 53, Size: 60000},
		"udp://web:53?hold=2s&family=6":        {Scheme: "udp", Host: "web", Port: 53, Hold: 2 * time.Second, Family: 6},
		"sctp://web:9090?family=4":             {Scheme: "sctp", Host: "web", Port: 9090, Family: 4},
		"icmp://[fe80::1%25eth0]?size=1400":    {Scheme: "icmp", Host: "fe80::1%eth0", Size: 1400},
		"icmp://10.0.0.1":                      {Scheme: "icmp", Host: "10.0.0.1"},
		"tcp://[fd00::1]:80?family=6&hold=1ms": {Scheme: "tcp", Host: "fd00::1", Port: 80, Family: 6, Hold: time.Millisecond},
	} {
		want.Raw = raw
		got, err := ParseTarget(raw)
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", raw, diff)
		}
	}
}

func TestParseTargetSaysWhatIsWrong(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                 "no host",
		"10.0.0.1:80":                      "colon",
		"http://10.0.0.1:80":               `scheme "http"`,
		"tcp://10.0.0.1":                   `port ""`,
		"tcp://10.0.0.1:0":                 `port "0"`,
		"tcp://10.0.0.1:65536":             `port "65536"`,
		"tcp://:80":                        "no host",
		"tcp://a:80/path":                  "SCHEME://HOST:PORT",
		"tcp://u@a:80":                     "SCHEME://HOST:PORT",
		"tcp://a:80#x":                     "SCHEME://HOST:PORT",
		"icmp://10.0.0.1:80":               "no ports",
		"icmp://10.0.0.1?hold=1s":          `no option "hold"`,
		"sctp://a:1?size=10":               `no option "size"`,
		"udp://a:1?size=60001":             "size",
		"udp://a:1?size=0":                 "size",
		"udp://a:1?hold=-1s":               "hold",
		"udp://a:1?hold=11m":               "hold",
		"udp://a:1?family=5":               "family",
		"udp://a:1?size=1&size=2":          "2 times",
		"udp://10.0.0.1:1?family=6":        "not an address of family 6",
		"icmp://[::ffff:1.2.3.4]?family=6": "not an address of family 6",
	} {
		if _, err := ParseTarget(raw); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", raw, err, want)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"tcp://10.0.0.1:80", "udp://[fd00::1]:53?size=9&hold=1s&family=6", "icmp://x?size=1", "sctp://x:1", "tcp://x%25:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := ParseTarget(raw)
		if err != nil {
			return
		}
		if got.Host == "" || (got.Port == 0) != (got.Scheme == schemeICMP) || got.Size < 0 || got.Size > MaxSize || got.Hold < 0 || got.Hold > maxHold {
			t.Fatalf("%q gives %+v", raw, got)
		}
		again, err := ParseTarget(got.Raw)
		if err != nil || again != got {
			t.Fatalf("%q is not stable: %+v, %v", raw, again, err)
		}
	})
}

func TestSCTPPacketsSurviveEncoding(t *testing.T) {
	for _, want := range []sctpPacket{
		{SrcPort: 1, DstPort: 65535, Chunk: chunkInit, InitTag: 1},
		{SrcPort: 1, DstPort: 2, Tag: 3, Chunk: chunkInitAck, InitTag: 4, Cookie: []byte("odd")},
		{SrcPort: 1, DstPort: 2, Tag: 3, Chunk: chunkAbort, Flags: abortReflected},
	} {
		got, err := parseSCTP(want.encode())
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestSCTPWrongChecksumIsSeen(t *testing.T) {
	packet := sctpPacket{SrcPort: 1, DstPort: 2, Chunk: chunkInit, InitTag: 1}.encode()
	for i := range packet {
		packet[i] ^= 0x10
		if _, err := parseSCTP(packet); !errors.Is(err, errSCTPCheck) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		packet[i] ^= 0x10
	}
}

func FuzzParseSCTP(f *testing.F) {
	f.Add(sctpPacket{SrcPort: 1, DstPort: 2, Chunk: chunkInit, InitTag: 1}.encode())
	f.Add(sctpPacket{SrcPort: 1, DstPort: 2, Tag: 3, Chunk: chunkInitAck, InitTag: 1, Cookie: []byte("cookie")}.encode())
	f.Add(sctpPacket{SrcPort: 1, DstPort: 2, Tag: 3, Chunk: chunkAbort}.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		// Few inputs have a right checksum: give them one, to reach the rest.
		if len(data) >= sctpHeaderLen {
			data = bytes.Clone(data)
			sealSCTP(data)
		}
		p, err := parseSCTP(data)
		if err != nil {
			return
		}
		again, err := parseSCTP(p.encode())
		if p.Chunk == chunkInit {
			p.Cookie = nil // an INIT has none; one that is there is not encoded
		}
		if err != nil || !cmp.Equal(p, again, cmp.Comparer(bytes.Equal)) {
			t.Fatalf("%+v became %+v, %v", p, again, err)
		}
	})
}

func TestParseResultsReadsWhatIsPrintedAndRefusesTheRest(t *testing.T) {
	want := []Result{
		{Target: "icmp://a?size=1&family=4", OK: true, Attempts: 1, Milliseconds: 0.25},
		{Target: "tcp://b:1", Kind: KindRefused, Error: "no", Attempts: 2},
	}
	var out bytes.Buffer
	if err := report(&out, want, ""); err != nil {
		t.Fatal(err)
	}
	got, err := ParseResults(strings.NewReader("\n" + out.String()))
	if err != nil || !cmp.Equal(want, got, cmp.Comparer(func(a, b Result) bool { return a == b })) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"sh: not found", "{}", `{"target":"a"} {`} {
		if _, err := ParseResults(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
