package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/overland-net/overland/test/lab/fabric"
	"github.com/overland-net/overland/test/lab/state"
)

// rebootTimeout bounds a reboot, in which a whole node's programs start.
const rebootTimeout = 2 * time.Minute

// listen opens the daemon's socket, for its owner only. The path is reached
// through the folder's descriptor, because a socket's path is limited to 107
// characters, and a checkout's is not.
func listen(dir state.Dir) (net.Listener, error) {
	folder, err := os.Open(string(dir))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	defer func() { _ = folder.Close() }() // only read
	listener, err := net.Listen("unix", shortSocket(folder))
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", dir.Socket(), err)
	}
	if err := os.Chmod(dir.Socket(), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), listener.Close())
	}
	return listener, nil
}

// shortSocket is the socket's path by way of an open folder.
func shortSocket(folder *os.File) string {
	return fmt.Sprintf("/proc/self/fd/%d/lab.sock", folder.Fd())
}

func (d *Daemon) serve(listener net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { reply(w, d.status(), nil) })
	mux.HandleFunc("POST /v1/impair", handle(d.impair))
	mux.HandleFunc("POST /v1/heal", handle(d.heal))
	mux.HandleFunc("POST /v1/stop", handle(d.stopComponent))
	mux.HandleFunc("POST /v1/start", handle(d.startComponent))
	mux.HandleFunc("POST /v1/reboot", handle(d.reboot))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return fmt.Errorf("serve: %w", server.Serve(listener))
}

// handle makes a handler of a function from a request's body to a failure.
func handle[T any](do func(context.Context, T) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request T
		decoder := json.NewDecoder(r.Body)
		decoder.DisallowUnknownFields()
		err := decoder.Decode(&request)
		if err != nil {
			err = fmt.Errorf("read the request: %w", err)
		} else {
			err = do(r.Context(), request)
		}
		reply(w, struct{}{}, err)
	}
}

func reply[T any](w http.ResponseWriter, value T, err error) {
	w.Header().Set("Content-Type", "application/json")
	// An answer that cannot be written has nobody to be told to.
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(errorReply{Error: err.Error()})
		return
	}
	_ = json.NewEncoder(w).Encode(value)
}

func (d *Daemon) impair(_ context.Context, r ImpairRequest) error {
	ways := []struct{ from, to string }{{r.From, r.To}, {r.To, r.From}}
	if r.OneWay {
		ways = ways[:1]
	}
	d.building.Lock()
	defer d.building.Unlock()
	for _, way := range ways {
		if err := d.fabric.Impair(way.from, way.to, r.Impairment); err != nil {
			return err
		}
		d.log.WithField("from", way.from).WithField("to", way.to).WithField("state", r.Impairment).Info("peering set")
	}
	return nil
}

// heal makes the named peering healthy, or all of them if none is named.
func (d *Daemon) heal(ctx context.Context, r ImpairRequest) error {
	r.Impairment = fabric.Impairment{}
	if r.From != "" || r.To != "" {
		return d.impair(ctx, r)
	}
	for _, p := range d.peerings() {
		if err := d.impair(ctx, ImpairRequest{From: p.From, To: p.To, OneWay: true}); err != nil {
			return err
		}
	}
	return nil
}

func (d *Daemon) stopComponent(_ context.Context, r ComponentRequest) error {
	c, err := d.component(r.Name)
	if err != nil {
		return err
	}
	grace := stopGrace
	if r.Kill {
		grace = 0
	}
	return c.stop(grace)
}

func (d *Daemon) startComponent(_ context.Context, r ComponentRequest) error {
	c, err := d.component(r.Name)
	if err != nil {
		return err
	}
	return c.start()
}

func (d *Daemon) reboot(_ context.Context, r RebootRequest) error {
	if r.First != "" && r.First != FirstProxy && r.First != FirstAgent {
		return fmt.Errorf("first: %s or %s expected, got %q", FirstProxy, FirstAgent, r.First)
	}
	n, err := d.node(r.Node)
	if err != nil {
		return err
	}
	// Not the request's context: a reboot that has begun must not stop half way
	// because whoever asked has gone.
	ctx, cancel := context.WithTimeout(context.Background(), rebootTimeout)
	defer cancel()
	n.rebooting.Lock()
	defer n.rebooting.Unlock()
	return n.reboot(ctx, r.First)
}

func (d *Daemon) peerings() []PeeringStatus {
	d.building.Lock()
	defer d.building.Unlock()
	var all []PeeringStatus
	for _, a := range d.lab.Clusters {
		for _, b := range d.lab.Clusters {
			if state, ok := d.fabric.Impairment(a.Name, b.Name); ok {
				all = append(all, PeeringStatus{From: a.Name, To: b.Name, Impairment: state})
			}
		}
	}
	return all
}

func (d *Daemon) status() Status {
	s := d.describe()
	if s.Phase == PhaseReady {
		s.Memory = memory()
	}
	return s
}

func (d *Daemon) describe() Status {
	s := Status{Started: d.began, Options: d.lab.Options, Peerings: d.peerings()}
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Phase, s.Doing, s.Took = d.phase, d.doing, d.took
	if d.failure != nil {
		s.Error = d.failure.Error()
	}
	for _, t := range d.lab.Clusters {
		c, ok := d.clusters[t.Name]
		if !ok {
			continue
		}
		cs := ClusterStatus{Name: t.Name, Kubeconfig: c.Kubeconfig(), Server: c.Server()}
		for _, component := range c.components {
			cs.Components = append(cs.Components, component.status())
		}
		for _, tn := range t.Nodes {
			cs.Nodes = append(cs.Nodes, c.nodes[tn.Name].status())
		}
		s.Clusters = append(s.Clusters, cs)
	}
	return s
}
