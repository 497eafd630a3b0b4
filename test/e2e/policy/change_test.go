package policy

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/test/lab/netprobe"
)

const (
	// grace is how long packets of a flow that is no longer allowed may pass after
	// the change is in the kernel (semantics 2.11).
	grace = time.Second
	// watch is how long they are looked for then: long enough for TCP's first
	// repetitions.
	watch = 2 * time.Second
)

// tightening is one way of closing what was open.
type tightening struct {
	name string
	// open are the policies before; close is the change.
	open  string
	close func(s *scene)
	// membersOnly: no rule may be touched.
	membersOnly bool
}

func tightenings() []tightening {
	fromClient := ingressFrom("is: closed", "{podSelector: {matchLabels: {role: client}}}") // a comes to b1 and b2
	openToA := scenePolicy("open", ingressFrom("is: open", "{podSelector: {matchLabels: {app: a}}}"))
	return []tightening{
		{
			name: "by an ingress rule", open: scenePolicy("closed", fromClient) + openToA,
			close: func(s *scene) {
				s.police(west(), scenePolicy("closed", ingressFrom("is: closed", "{podSelector: {matchLabels: {role: other}}}")))
			},
		},
		{
			name: "by an egress rule",
			open: scenePolicy("out", "{podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}"),
			close: func(s *scene) {
				s.police(west(), scenePolicy("out", "{podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {is: open}}}]}]}"))
			},
		},
		{
			name: "by isolation", open: openToA,
			close: func(s *scene) {
				s.police(west(), scenePolicy("closed", "{podSelector: {matchLabels: {is: closed}}, policyTypes: [Ingress]}"))
			},
		},
		{
			name: "by a label of the client", open: scenePolicy("closed", fromClient) + openToA, membersOnly: true,
			close: func(s *scene) { s.label(west(), "a", "role", "gone") },
		},
		{
			name: "by labels of the servers", membersOnly: true,
			open: scenePolicy("out", "{podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchExpressions: [{key: shut, operator: DoesNotExist}]}}]}]}"),
			close: func(s *scene) {
				s.label(west(), "b1", "shut", "yes")
				s.label(west(), "b2", "shut", "yes")
			},
		},
	}
}

func TestPolicyTighteningEndsFlowsWithinASecondAndNoOthers_2_11(t *testing.T) {
	for _, tt := range tightenings() {
		t.Run(tt.name, func(t *testing.T) {
			s := onScene(t)
			t.Cleanup(func() {
				s.label(west(), "a", "role", "client")
				for _, name := range []string{"b1", "b2"} {
					s.unlabel(name, "shut")
				}
			})
			s.police(west(), tt.open)
			open := []string{"c1", "c2"}
			if tt.name != "by isolation" {
				open = append(open, "b1", "b2")
			}
			s.reaches(api.ResultAllowed, open...)
			tighten(s, s.viaServices(5, "b1", "b2"), s.viaServices(5, "c1", "c2"), tt.membersOnly, func() {
				tt.close(s)
				s.reaches(api.ResultDenied, "b1", "b2")
			})
		})
	}
}

// tighten starts the flows, makes the change, which returns when it is in the
// kernel, and looks at what becomes of both kinds.
func tighten(s *scene, closing, staying []flow, membersOnly bool, change func()) {
	s.t.Helper()
	both := slices.Concat(closing, staying)
	m := s.measure(both)
	closingFlows := s.client.StartFlows(s.t, pace, urls(closing)...)
	stayingFlows := s.client.StartFlows(s.t, pace, urls(staying)...)
	s.awaitPackets(m, both)
	tracked := s.settled()
	before := map[string]api.DataplaneTotals{}
	for _, node := range nodes() {
		before[node] = agentStatus(s.t, node).Dataplane.Totals
	}
	change()
	programmed := time.Now()
	time.Sleep(grace)
	late := m.read()
	s.t.Logf("packets were counted until %s after the change was in the kernel", time.Since(programmed).Round(time.Millisecond))
	time.Sleep(watch)
	end := m.read()
	for _, f := range closing {
		for _, way := range directions(f.mode) {
			if n := end[f.url()+way] - late[f.url()+way]; n != 0 {
				s.t.Errorf("%s: %d packets passed (%s) later than %s after it was closed", f, n, way, grace)
			}
		}
	}
	for _, f := range staying {
		for _, way := range steady(f.mode) {
			if end[f.url()+way] <= late[f.url()+way] {
				s.t.Errorf("%s: no packet passes (%s), which is allowed", f, way)
			}
		}
	}
	now := s.tracked()
	for _, node := range nodes() {
		now := agentStatus(s.t, node).Dataplane.Totals
		if n := now.Transactions - before[node].Transactions; membersOnly && n != 0 {
			s.t.Errorf("%s: %d rule transactions for a change of members", node, n)
		}
		s.t.Logf("%s: %d transactions, %d sweeps, %d flows reset, %d raises", node, now.Transactions-before[node].Transactions,
			now.Sweeps-before[node].Sweeps, now.FlowsReset-before[node].FlowsReset, now.Raises-before[node].Raises)
	}
	closingFlows.Stop()
	reports := stayingFlows.Stop()
	for _, f := range staying {
		c := connection(protocolOf(f.mode), strconv.Itoa(int(reports[f.url()].Local.Port())), f.address.String(), strconv.Itoa(flowPort(f.mode)))
		if now[c].id == "" || now[c].id != tracked[c].id {
			s.t.Errorf("%s: the tracked connection was %q and is %q", f, tracked[c], now[c])
		}
	}
	s.alive(m, staying, reports)
}

// awaitPackets waits until every flow has packets in its directions.
func (s *scene) awaitPackets(m meters, flows []flow) {
	s.t.Helper()
	waitUntil(s.t, "packets of every flow", func(context.Context) (string, bool) {
		counts := m.read()
		for _, f := range flows {
			for _, way := range directions(f.mode) {
				if least := map[bool]uint64{true: 1, false: 5}[f.mode == netprobe.UDPPull && way == ">"]; counts[f.url()+way] < least {
					return fmt.Sprintf("%s: %d packets %s", f, counts[f.url()+way], way), false
				}
			}
		}
		return "", true
	})
}

// alive checks that flows, which have ended, were never cut and lost nothing.
// What arrived of those that only the client sends is counted at the server.
func (s *scene) alive(m meters, flows []flow, reports map[string]netprobe.FlowReport) {
	s.t.Helper()
	arrived := m.read()
	for _, f := range flows {
		r, ok := reports[f.url()]
		switch {
		case !ok || r.Error != "":
			s.t.Errorf("%s ended with %q (reported: %v)", f, r.Error, ok)
		case r.Failed > 0 || r.Missed > 0:
			s.t.Errorf("%s: %d exchanges failed, %d datagrams are missing, of %d sent and %d received", f, r.Failed, r.Missed, r.Sent, r.Received)
		case f.mode == netprobe.UDPPush && arrived[f.url()+">"] != r.Sent:
			s.t.Errorf("%s: %d datagrams sent, %d arrived", f, r.Sent, arrived[f.url()+">"])
		}
	}
}
