package netprobe

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestServersTellTheSourceAndTheirOwnEnd(t *testing.T) {
	startServer(t, ServeConfig{Name: "srv", TCP: []uint16{8080}, UDP: []uint16{8080}, SCTP: []uint16{9090}})
	results := probeAll(t, Options{},
		"tcp://127.0.0.1:8080", "tcp://[::1]:8080", "udp://127.0.0.1:8080", "udp://[::1]:8080",
		"sctp://127.0.0.1:9090", "sctp://[::1]:9090", "tcp://10.9.9.9:8080?size=40000", "udp://[fd00:9::9]:8080?size=60000",
		"udp://10.9.9.9:8080?size=60000", "udp://localhost:8080?family=4", "udp://127.0.0.1:8080?hold=50ms")
	for _, r := range results {
		if !r.OK || r.Kind != "" || r.Error != "" || r.Attempts != 1 || r.Milliseconds <= 0 {
			t.Errorf("not a clean success: %+v", r)
			continue
		}
		if r.Server != "srv" || r.Source != r.Local || r.ServerLocal.Addr() != r.Address || r.Source.Port() == 0 {
			t.Errorf("%s: what the server saw does not fit: %+v", r.Target, r)
		}
	}
	for i, want := range map[int]int{0: 9, 6: 40000, 7: 60000, 8: 60000} {
		if results[i].Bytes != want {
			t.Errorf("%s: the server got %d bytes, want %d", results[i].Target, results[i].Bytes, want)
		}
	}
}

func TestAnswersLeaveFromTheAddressThatWasAsked(t *testing.T) {
	startServer(t, ServeConfig{Name: "srv", UDP: []uint16{8080}, SCTP: []uint16{9090}})
	for _, c := range []struct{ source, dst string }{{loExtra4, loOther4}, {loExtra6, "[" + loOther6 + "]"}} {
		// Both addresses are local: without care the kernel would answer from
		// the address that the answer goes to.
		for _, r := range probeAll(t, Options{Source: netip.MustParseAddr(c.source)}, "udp://"+c.dst+":8080", "sctp://"+c.dst+":9090", "icmp://"+c.dst) {
			if !r.OK || r.Local.Addr().String() != c.source || r.Source.IsValid() && r.Source.Addr().String() != c.source {
				t.Errorf("from %s: %+v", c.source, r)
			}
		}
	}
}

func TestFailuresAreToldApart(t *testing.T) {
	brackets := func(addrs ...string) (hosts []string) {
		for _, a := range addrs {
			if strings.Contains(a, ":") {
				a = "[" + a + "]"
			}
			hosts = append(hosts, a)
		}
		return hosts
	}
	quick := Options{Timeout: 700 * time.Millisecond}
	fromAny := func() Options { return Options{Timeout: quick.Timeout, Source: anySource()} }
	for _, c := range []struct {
		name  string
		kind  Kind
		opts  Options
		hosts []string
		icmp  bool
	}{
		{"nothing listens", KindRefused, quick, brackets(router4, router6), false},
		{"dropped on the way", KindTimeout, quick, brackets(dropped4, dropped6), true},
		{"a router has no route for IPv4", KindUnreachable, fromAny(), brackets(noWay4), true},
		{"a router has no route for IPv6", KindUnreachable, quick, brackets(noWay6), true},
		{"a router forbids IPv4", KindUnreachable, fromAny(), brackets(forbid4), true},
		{"a router forbids IPv6", KindUnreachable, quick, brackets(forbid6), true},
		{"blackhole route of the own host", KindUnreachable, quick, brackets(ownBlackhole4, ownBlackhole6), true},
		{"name that cannot be", KindResolve, quick, []string{"no..such-name"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var targets []string
			for _, host := range c.hosts {
				targets = append(targets, "tcp://"+host+":81", "udp://"+host+":81", "sctp://"+host+":81")
				if c.icmp {
					targets = append(targets, "icmp://"+host)
				}
			}
			start := time.Now()
			for i, r := range probeAll(t, c.opts, targets...) {
				if r.OK || r.Kind != c.kind || r.Error == "" || r.Target != targets[i] {
					t.Errorf("want %s: %+v", c.kind, r)
				}
			}
			// One after the other, probes that time out take at least so long.
			if took := time.Since(start); c.kind == KindTimeout && took >= time.Duration(len(targets))*quick.Timeout {
				t.Errorf("took %s: the probes did not run at once", took)
			}
		})
	}
}

func TestICMPEchoesBothFamiliesAndLarge(t *testing.T) {
	for _, r := range probeAll(t, Options{}, "icmp://127.0.0.1", "icmp://[::1]", "icmp://"+router4+"?size=60000", "icmp://["+router6+"]?size=20001") {
		if !r.OK || !r.Local.Addr().IsValid() {
			t.Errorf("%+v", r)
		}
	}
}

func TestRetriesAreCountedAndMore(t *testing.T) {
	r := probeAll(t, Options{Timeout: 50 * time.Millisecond, Retries: 2}, "udp://"+dropped4+":80")[0]
	if r.OK || r.Attempts != 3 || r.Kind != KindTimeout {
		t.Errorf("%+v", r)
	}
}

func TestHeldConnectionIsAskedAgain(t *testing.T) {
	network(t)
	l, err := net.Listen("tcp", "127.0.0.1:8085")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // answers once, then ends
				buf := make([]byte, 64)
				_, _ = conn.Read(buf)
				_, _ = conn.Write([]byte("not JSON\n"))
				_ = conn.Close()
			}()
		}
	}()
	results := probeAll(t, Options{}, "tcp://127.0.0.1:8085", "tcp://127.0.0.1:8085?hold=100ms")
	if !results[0].OK || results[0].Server != "" {
		t.Errorf("any answer is one: %+v", results[0])
	}
	if results[1].OK || results[1].Kind != KindClosed || !strings.Contains(results[1].Error, "after holding the connection for 100ms") {
		t.Errorf("hold: %+v", results[1])
	}
}

// sendRaw sends an SCTP packet to loopback and returns the answers of port
// 9090 that come within 200 ms.
func sendRaw(t *testing.T, packet []byte) []sctpPacket {
	t.Helper()
	conn, err := net.DialIP("ip4:132", nil, &net.IPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(packet); err != nil {
		t.Fatal(err)
	}
	var answers []sctpPacket
	_ = receive(conn, func(data []byte) (bool, error) { // ends with the deadline
		if p, err := parseSCTP(data); err == nil && p.SrcPort == 9090 {
			p.Cookie = bytes.Clone(p.Cookie)
			answers = append(answers, p)
		}
		return false, nil
	})
	return answers
}

func TestSCTPServerAnswersOnlyAValidInit(t *testing.T) {
	startServer(t, ServeConfig{Name: "srv", SCTP: []uint16{9090}})
	valid := sctpPacket{SrcPort: 40000, DstPort: 9090, Chunk: chunkInit, InitTag: 0xabcd1234}
	answers := sendRaw(t, valid.encode())
	if len(answers) != 1 || answers[0].Chunk != chunkInitAck || answers[0].Tag != valid.InitTag || answers[0].DstPort != 40000 {
		t.Fatalf("answers to a valid INIT: %+v", answers)
	}
	var reply Reply
	if err := json.Unmarshal(answers[0].Cookie, &reply); err != nil || reply.Source != netip.MustParseAddrPort("127.0.0.1:40000") {
		t.Errorf("cookie %q, %v", answers[0].Cookie, err)
	}
	badSum := valid.encode()
	badSum[8] ^= 1
	tagged, otherPort, ack := valid, valid, valid
	tagged.Tag, otherPort.DstPort, ack.Chunk = 7, 9091, chunkInitAck
	for name, packet := range map[string][]byte{
		"wrong checksum": badSum, "INIT with a verification tag": tagged.encode(),
		"other port": otherPort.encode(), "INIT-ACK": ack.encode(), "short": valid.encode()[:20],
	} {
		if answers := sendRaw(t, packet); len(answers) != 0 {
			t.Errorf("%s was answered: %+v", name, answers)
		}
	}
}

func TestSCTPClientIgnoresWhatIsNotItsAnswerAndSeesAbort(t *testing.T) {
	network(t)
	conn, err := net.ListenIP("ip4:132", &net.IPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromIP(buf)
			if err != nil {
				return
			}
			in, err := parseSCTP(buf[:n])
			if err != nil || in.Chunk != chunkInit {
				continue
			}
			out := sctpPacket{SrcPort: in.DstPort, DstPort: in.SrcPort, Tag: in.InitTag, Chunk: chunkInitAck, InitTag: 1}
			packet := out.encode()
			switch in.DstPort {
			case 1: // wrong verification tag
				out.Tag++
				packet = out.encode()
			case 2: // wrong checksum
				packet[9] ^= 0x80
			case 3:
				out.Chunk = chunkAbort
				packet = out.encode()
			}
			_, _ = conn.WriteToIP(packet, from)
		}
	}()
	results := probeAll(t, Options{Timeout: 300 * time.Millisecond},
		"sctp://127.0.0.1:1", "sctp://127.0.0.1:2", "sctp://127.0.0.1:3", "sctp://127.0.0.1:4")
	got := []Kind{results[0].Kind, results[1].Kind, results[2].Kind, results[3].Kind}
	if want := []Kind{KindTimeout, KindTimeout, KindRefused, ""}; !cmp.Equal(want, got) {
		t.Errorf("kinds %q, want %q", got, want)
	}
}

func TestHTTPAnswersProbesAndTellsTheSource(t *testing.T) {
	startServer(t, ServeConfig{Name: "srv", HTTP: []uint16{8090}})
	client := &http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	for path, wantStatus := range map[string]int{"/healthz": 200, "/": 200, "/other": 404} {
		resp, err := client.Get("http://127.0.0.1:8090" + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != wantStatus {
			t.Errorf("%s: status %d, %v", path, resp.StatusCode, err)
		}
		var reply Reply
		if path == "/" && (json.Unmarshal(body, &reply) != nil || reply.Server != "srv" || reply.Source.Addr().String() != "127.0.0.1" ||
			reply.Local.String() != "127.0.0.1:8090") {
			t.Errorf("%s: %q", path, body)
		}
	}
}

// program runs the program as a process of its own.
func program(t *testing.T, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	network(t)
	cmd := exec.Command(os.Args[0], append([]string{"--"}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	_ = cmd.Run() // the status tells
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

func TestProgramPrintsInOrderAndSetsTheStatus(t *testing.T) {
	startServer(t, ServeConfig{Name: "srv", TCP: []uint16{8080}})
	open, closed := "tcp://127.0.0.1:8080?family=4&size=9", "tcp://127.0.0.1:8081"
	for _, c := range []struct {
		name, stdin string
		args        []string
		status      int
		targets     []string
	}{
		{"both", "", []string{"probe", open, closed}, 0, []string{open, closed}},
		{"stdin between arguments", "\n" + closed + "\n", []string{"probe", open, "-", open}, 0, []string{open, closed, open}},
		{"all expected and met", "", []string{"probe", "--expect", "all", open}, 0, []string{open}},
		{"all expected, one fails", "", []string{"probe", "--expect", "all", open, closed}, 1, []string{open, closed}},
		{"none expected and met", "", []string{"probe", "--expect", "none", closed}, 0, []string{closed}},
		{"none expected, one answers", "", []string{"probe", "--expect", "none", closed, open}, 1, []string{closed, open}},
		{"bad target", "", []string{"probe", open, "tcp://x"}, 2, nil},
		{"bad flag", "", []string{"probe", "--nonsense", open}, 2, nil},
		{"bad expectation", "", []string{"probe", "--expect", "some", open}, 2, nil},
		{"no target", "", []string{"probe"}, 2, nil},
		{"no command", "", nil, 2, nil},
		{"unknown command", "", []string{"prove"}, 2, nil},
		{"nothing to serve", "", []string{"serve"}, 2, nil},
		{"port in use", "", []string{"serve", "--tcp", "8080"}, 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			stdout, stderr, status := program(t, c.stdin, c.args...)
			if status != c.status || (status != 0) != strings.Contains(stderr, "netprobe: ") {
				t.Errorf("status %d, want %d; stderr %s", status, c.status, stderr)
			}
			results, err := ParseResults(strings.NewReader(stdout))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range results {
				got = append(got, r.Target)
			}
			if !cmp.Equal(c.targets, got) {
				t.Errorf("targets %q, want %q", got, c.targets)
			}
		})
	}
}

func TestServerEndsWithinASecondOfSIGTERM(t *testing.T) {
	network(t)
	cmd := exec.Command(os.Args[0], "--", "serve", "--tcp", "8070", "--udp", "8070", "--sctp", "9070", "--http", "8071")
	// The race detector would wait a second at the end.
	cmd.Env = append(os.Environ(), asProgram+"=1", "GORACE=atexit_sleep_ms=0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var conn net.Conn
	for { // an open, idle connection must not hold the server up
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", "127.0.0.1:8071")
		if err == nil {
			conn = c
			break
		}
		if ctx.Err() != nil {
			t.Fatal("the server does not start")
		}
		time.Sleep(10 * time.Millisecond)
	}
	defer func() { _ = conn.Close() }()
	if r := probeAll(t, Options{}, "sctp://127.0.0.1:9070")[0]; !r.OK {
		t.Errorf("%+v", r)
	}
	start := time.Now()
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || time.Since(start) > time.Second {
		t.Errorf("ended after %s: %v", time.Since(start), err)
	}
}
