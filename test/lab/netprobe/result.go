package netprobe

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// Kind says in which way a probe failed; it is empty for one that did not.
type Kind string

// The kinds of failure.
const (
	// KindTimeout: nothing came back in time, as when packets are dropped.
	KindTimeout Kind = "timeout"
	// KindRefused: the other end said no: a TCP reset, an ICMP port or
	// protocol unreachable, an SCTP ABORT.
	KindRefused Kind = "refused"
	// KindUnreachable: a router, or the own kernel, knows no way or forbids it.
	KindUnreachable Kind = "unreachable"
	// KindResolve: the name has no address of the family asked for.
	KindResolve Kind = "resolve"
	// KindDenied: the own kernel refused to send, as its firewall's OUTPUT does.
	KindDenied Kind = "denied"
	// KindClosed: the connection was made, then ended without an answer.
	KindClosed Kind = "closed"
	// KindOther: none of these; Error has the words.
	KindOther Kind = "other"
)

// Reply is what a server answers: one line of JSON.
type Reply struct {
	Server string         `json:"server"` // its name, or its host's
	Source netip.AddrPort `json:"source"` // where the request came from, as seen by the server
	Local  netip.AddrPort `json:"local"`  // the server's own end
	Bytes  int            `json:"bytes"`  // size of the request
}

// Result is what became of one probe: one line of JSON.
type Result struct {
	Target string `json:"target"` // as given
	OK     bool   `json:"ok"`
	Kind   Kind   `json:"kind,omitempty"`
	Error  string `json:"error,omitempty"`
	// Address is what the target's host resolved to.
	Address netip.Addr `json:"address,omitzero"`
	// Local is the client's own end; the port is 0 for icmp.
	Local netip.AddrPort `json:"local,omitzero"`
	// Source is the client as the server saw it; not set for icmp.
	Source netip.AddrPort `json:"source,omitzero"`
	// Server is the name that the server gave; not set for icmp.
	Server string `json:"server,omitempty"`
	// ServerLocal is the server's own end, which differs from the target
	// where the address was translated on the way; not set for icmp.
	ServerLocal netip.AddrPort `json:"serverLocal,omitzero"`
	// Bytes is the size of the request as the server counted it.
	Bytes int `json:"bytes,omitempty"`
	// Attempts counts from 1; more than 1 only with retries.
	Attempts int `json:"attempts"`
	// Milliseconds is how long the last attempt took, from the first packet
	// to the answer or the failure, a hold left out.
	Milliseconds float64 `json:"milliseconds"`
}

// ParseResults reads what `netprobe probe` printed: one Result a line. Empty
// lines are skipped; anything else that is not a Result is an error.
func ParseResults(r io.Reader) ([]Result, error) {
	var results []Result
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var result Result
		if err := json.Unmarshal(line, &result); err != nil {
			return nil, fmt.Errorf("line %d of the probe's output, %q: %w", n, line, err)
		}
		if result.Target == "" {
			return nil, fmt.Errorf("line %d of the probe's output, %q: %w", n, line, errNoTarget)
		}
		results = append(results, result)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the probe's output: %w", err)
	}
	return results, nil
}

var errNoTarget = errors.New("no target: not a result")

// line encodes a reply as the servers send it.
func (r Reply) line() []byte {
	data, err := json.Marshal(r)
	if err != nil {
		// Addresses, a string and a number always marshal.
		panic(fmt.Sprintf("netprobe: encode reply: %v", err))
	}
	return append(data, '\n')
}

// take copies into the result what the server's reply says.
func (r *Result) take(reply Reply) {
	r.Source, r.Server, r.ServerLocal, r.Bytes = reply.Source, reply.Server, reply.Local, reply.Bytes
}
