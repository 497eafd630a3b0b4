package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/federation"
)

const (
	// A request has a small body if any, so it is read at once or not at all.
	readTimeout = 5 * time.Second
	// writeTimeout ends an answer that makes no progress for so long: somebody
	// may have stopped to read a page of it, but not for ever.
	writeTimeout = 2 * time.Minute
	// idleTimeout is longer than the pause between two scrapes.
	idleTimeout = 90 * time.Second
	// stopTimeout is how long answers may take to end when the agent stops.
	stopTimeout = time.Second
	// maxHeader bounds a request on the socket: the longest expression, escaped.
	maxHeader = 256 << 10
	// maxPublicHeader bounds one on the TCP port, where nobody has much to say.
	maxPublicHeader = 8 << 10
	// maxPublicConns bounds the connections to the TCP port, which is open to
	// the network: each costs some ten kilobytes and, with the timeouts above,
	// a few seconds.
	maxPublicConns = 256
	// maxLists is how many answers that list endpoints are made at once: each
	// sorts, and there are two cores.
	maxLists = 4
)

// Source has the newest snapshot, and a channel that is closed when there is a
// newer one. The snapshot may be nil: then the agent is starting.
type Source interface {
	Snapshot() (*agent.Snapshot, <-chan struct{})
}

// Dataplane is how enforcement is doing. It is asked from any goroutine.
type Dataplane interface {
	// Ready is why policies are not enforced yet; nil once they are.
	Ready() error
	Status() dataplane.Status
	dataplane.Inspector
}

// Services is what is known of federated Services: a *federation.Services. It is
// asked from any goroutine.
type Services interface {
	federation.ServicesSnapshots // what this agent knows as the leader
	// Published is what the leader has published.
	Published(ctx context.Context) (*federation.Reports, error)
}

// Config is what a Server is told.
type Config struct {
	// Socket is the path of the unix socket for root.
	Socket string
	// Listen is HOST:PORT of the TCP listener for metrics and health; empty:
	// none.
	Listen string
	// Self is what is said of the agent before there is a snapshot.
	Self agent.Self
	// Dataplane is what enforces policies; nil: nothing does, and readiness does
	// not wait for it.
	Dataplane Dataplane
	// Services are the federated ones; nil: this agent has no part in them.
	Services Services
	// CNI is the pods that are connected; nil: the CNI plugin is not served.
	CNI CNI
	// Opened, if not nil, is called once the socket and the listener are open: no
	// other agent runs on this node then.
	Opened func()
	// Now is the clock by which ages are told; nil: time.Now.
	Now func() time.Time
}

// Server answers on the admin socket and the metrics port.
type Server struct {
	config    Config
	snapshots Source
	log       *logrus.Entry
	now       func() time.Time
	lists     *limit
	requests  *cniMetrics // nil without CNI
}

// NewServer makes a server; it listens once Run is called. The source is asked
// anew for every request.
func NewServer(config Config, snapshots Source, log *logrus.Entry) *Server {
	if config.Now == nil {
		config.Now = time.Now
	}
	s := &Server{config: config, snapshots: snapshots, log: log, now: config.Now, lists: newLimit(maxLists)}
	if config.CNI != nil {
		s.requests = newCNIMetrics(config.CNI)
	}
	return s
}

// Run listens and answers until ctx ends, which is no error. It fails if it
// cannot listen: if another agent answers on the socket, say. The socket is
// gone when it returns.
func (s *Server) Run(ctx context.Context) error {
	socket, err := listenSocket(s.config.Socket)
	if err != nil {
		return fmt.Errorf("admin socket %s: %w", s.config.Socket, err)
	}
	defer socket.close()
	var public net.Listener
	if s.config.Listen != "" {
		if public, err = new(net.ListenConfig).Listen(ctx, "tcp", s.config.Listen); err != nil {
			return fmt.Errorf("metrics and health on %s: %w", s.config.Listen, err)
		}
		defer func() { _ = public.Close() }()
		s.log.WithField("address", public.Addr().String()).Info("metrics and health are served")
	}
	s.log.WithField("socket", s.config.Socket).Info("admin socket is open")
	if s.config.Opened != nil {
		s.config.Opened()
	}
	return s.serve(ctx, socket.listener, public)
}

// serve answers on both listeners; public may be nil.
func (s *Server) serve(ctx context.Context, socket, public net.Listener) error {
	metrics := promhttp.HandlerFor(s.registry(), promhttp.HandlerOpts{
		MaxRequestsInFlight: 4, Timeout: 30 * time.Second,
	})
	servers := []*http.Server{s.httpServer(requireRoot(s.socketHandler(metrics)), maxHeader)}
	servers[0].ConnContext = withPeer
	listeners := []net.Listener{socket}
	if public != nil {
		servers = append(servers, s.httpServer(s.publicHandler(metrics), maxPublicHeader))
		listeners = append(listeners, limitConns(public, maxPublicConns))
	}
	failed := make(chan error, len(servers))
	for i, server := range servers {
		go func() { failed <- server.Serve(listeners[i]) }()
	}
	running, err := len(servers), error(nil)
	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	for _, server := range servers {
		if server.Shutdown(stopping) != nil {
			_ = server.Close() // what is still being answered is cut off
		}
	}
	for range running {
		if end := <-failed; err == nil {
			err = end
		}
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin server: %w", err)
	}
	return nil
}

func (s *Server) httpServer(h http.Handler, headerBytes int) *http.Server {
	return &http.Server{
		Handler:        s.recovering(h),
		ReadTimeout:    readTimeout,
		WriteTimeout:   writeTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: headerBytes,
		// What it has to say is about broken clients; panics are ours to log.
		ErrorLog: stdlog.New(io.Discard, "", 0),
	}
}

// recovering logs a panic of a handler and ends that one answer.
func (s *Server) recovering(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
					s.log.WithField("path", r.URL.Path).Errorf("panic in the admin server: %v", p)
				}
				panic(http.ErrAbortHandler)
			}
		}()
		h.ServeHTTP(w, r)
	})
}

// socketHandler serves root.
func (s *Server) socketHandler(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(api.PathStatus, answer(s, status))
	mux.HandleFunc(api.PathClusters, answer(s, clusters))
	mux.HandleFunc(api.PathEndpoints+"/{namespace}/{name}", answer(s, details))
	mux.HandleFunc(api.PathEndpoints, s.list(endpoints))
	mux.HandleFunc(api.PathEvaluate, s.list(evaluate))
	mux.HandleFunc(api.PathPolicies, answer(s, policies))
	mux.HandleFunc(api.PathPolicies+"/{namespace}/{name}", limited(s, policyDetails))
	mux.HandleFunc(api.PathExplain, limited(s, s.explain))
	mux.HandleFunc(api.PathServices, work(s, s.services))
	mux.HandleFunc(api.PathServices+"/{namespace}/{name}", work(s, s.service))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, notFound("no such path %s: expected %s, /metrics, /livez, /readyz or /debug/pprof/", r.URL.Path, strings.Join([]string{
			api.PathStatus, api.PathClusters, api.PathEndpoints, api.PathEndpoints + "/NAMESPACE/POD", api.PathEvaluate,
			api.PathPolicies, api.PathPolicies + "/NAMESPACE/NAME", api.PathExplain,
			api.PathServices, api.PathServices + "/NAMESPACE/NAME",
		}, ", ")))
	})
	s.health(mux, metrics)
	all := http.NewServeMux()
	all.Handle("/", onlyGet(mux))
	if s.config.CNI != nil {
		s.cniHandlers(all)
	}
	return all
}

// publicHandler serves whoever reaches the TCP port: nothing that tells who is
// where, or what anybody may do.
func (s *Server) publicHandler(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	s.health(mux, metrics)
	return onlyGet(mux)
}

func (s *Server) health(mux *http.ServeMux, metrics http.Handler) {
	mux.Handle("/metrics", metrics)
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		snapshot, _ := s.snapshots.Snapshot()
		if why := notReady(snapshot, s.enforcing()); why != "" {
			writeText(w, http.StatusServiceUnavailable, why+"\n")
			return
		}
		writeText(w, http.StatusOK, "ok\n")
	})
}
