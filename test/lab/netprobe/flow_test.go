package netprobe

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const testFlowPort = 7100

func TestFlowsOfEveryModeCountWhatTheyHear(t *testing.T) {
	startServer(t, ServeConfig{Name: "flows", Flow: []uint16{testFlowPort}})
	for _, address := range []string{"127.0.0.1", "[::1]"} {
		var flows []Flow
		for _, m := range modes() {
			f, err := ParseFlow(fmt.Sprintf("%s://%s:%d", m, address, testFlowPort))
			if err != nil {
				t.Fatal(err)
			}
			flows = append(flows, f)
		}
		var out bytes.Buffer
		err := RunFlows(context.Background(), flows, FlowOptions{For: time.Second, Interval: 5 * time.Millisecond, Every: 200 * time.Millisecond}, &out)
		if err != nil {
			t.Fatal(err)
		}
		reports, err := ParseFlowReports(&out)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range flows {
			r, ok := reports[f.Raw]
			if !ok || !r.Last || r.Error != "" || r.Missed != 0 || r.Failed != 0 {
				t.Errorf("%s: %+v", f.Raw, r)
				continue
			}
			switch f.Mode {
			case TCPPush, UDPPush:
				if r.Sent < 10 || r.Received != 0 {
					t.Errorf("%s: sent %d, received %d", f.Raw, r.Sent, r.Received)
				}
			case TCPNew, UDPNew:
				if r.Sent < 10 || r.Received != r.Sent {
					t.Errorf("%s: sent %d, received %d", f.Raw, r.Sent, r.Received)
				}
			default:
				if r.Received < 10 || r.Heard.IsZero() || !r.Local.IsValid() {
					t.Errorf("%s: %+v", f.Raw, r)
				}
			}
		}
	}
}

func TestFlowToWhereNothingListensFailsOrGoesOn(t *testing.T) {
	network(t)
	var flows []Flow
	for _, m := range modes() {
		flows = append(flows, Flow{Raw: string(m), Mode: m, Target: netip.MustParseAddrPort("127.0.0.1:7199")})
	}
	var out bytes.Buffer
	if err := RunFlows(context.Background(), flows, FlowOptions{For: 300 * time.Millisecond, Interval: 10 * time.Millisecond}, &out); err != nil {
		t.Fatal(err)
	}
	reports, err := ParseFlowReports(&out)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flows {
		r := reports[f.Raw]
		if r.Received != 0 {
			t.Errorf("%s: %+v", f.Raw, r)
		}
		if stream := f.Mode == TCPPush || f.Mode == TCPBulk || f.Mode == TCPSlow; stream != (r.Error != "") {
			t.Errorf("%s ended with %q", f.Raw, r.Error)
		}
		if (f.Mode == TCPNew || f.Mode == UDPNew) && r.Failed != r.Sent {
			t.Errorf("%s: %+v", f.Raw, r)
		}
	}
}

func TestWhatAFlowHasMissedIsCounted(t *testing.T) {
	var tl tally
	for _, n := range []string{"0", "1", "4", "3", "9"} {
		tl.numbered([]byte(n))
	}
	if r := tl.now(); r.Missed != 5 || r.Received != 5 {
		t.Errorf("got %+v, want 2, 5, 6, 7 and 8 missed", r)
	}
}

func TestParseFlow(t *testing.T) {
	f, err := ParseFlow("udp-pull://[fd00::1]:53")
	if err != nil || f.Mode != UDPPull || f.Target != netip.MustParseAddrPort("[fd00::1]:53") {
		t.Errorf("got %+v, %v", f, err)
	}
	for _, raw := range []string{"", "tcp://10.0.0.1:1", "udp-pull:10.0.0.1:1", "udp-pull://10.0.0.1", "udp-pull://name:1"} {
		if f, err := ParseFlow(raw); err == nil {
			t.Errorf("%q is %+v", raw, f)
		}
	}
	if _, err := ParseFlowReports(strings.NewReader("{}\nno\n")); err == nil {
		t.Error("a report that is none is accepted")
	}
}
