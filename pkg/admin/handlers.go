package admin

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/overland-net/overland/pkg/agent"
)

// request is all that an answer depends on.
type request struct {
	// snapshot is never nil; known is false if there was none.
	snapshot *agent.Snapshot
	known    bool
	now      time.Time
	query    url.Values
	// namespace and name are those of the path.
	namespace, name string
	// enforcing is nil if nothing enforces policies.
	enforcing *enforcing
}

func (s *Server) request(r *http.Request) (request, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return request{}, invalid("the query cannot be read: %v", err)
	}
	snapshot, _ := s.snapshots.Snapshot()
	known := snapshot != nil && snapshot.Gen > 0
	if !known {
		snapshot = &agent.Snapshot{Self: s.config.Self}
	}
	return request{
		snapshot: snapshot, known: known, now: s.now(), query: query,
		namespace: r.PathValue("namespace"), name: r.PathValue("name"),
		enforcing: s.enforcing(),
	}, nil
}

// parameters refuses what nobody would look at: a misspelt filter must not
// mean "everything".
func (r request) parameters(expected ...string) error {
	for name, values := range r.query {
		if !slices.Contains(expected, name) {
			if len(expected) == 0 {
				return invalid("unknown parameter %q: none is expected", name)
			}
			return invalid("unknown parameter %q: expected %s", name, strings.Join(expected, ", "))
		}
		if len(values) > 1 {
			return invalid("parameter %q is there %d times: expected once", name, len(values))
		}
	}
	return nil
}

// answer serves what fits into memory.
func answer[T any](s *Server, h func(request) (*T, error)) http.HandlerFunc {
	return work(s, func(_ context.Context, r request) (*T, error) { return h(r) })
}

// work serves what takes its time: the context ends with the request.
func work[T any](s *Server, h func(context.Context, request) (*T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := s.request(r)
		if err != nil {
			writeError(w, err)
			return
		}
		value, err := h(r.Context(), q)
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, value)
	}
}

// list serves endpoints, of which there may be very many: they are made and
// written one at a time. A list that ends before its closing bracket is not
// complete, and no reader can take it for one that is.
func (s *Server) list(h func(request) (*list, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := s.request(r)
		if err != nil {
			writeError(w, err)
			return
		}
		if !s.lists.enter(r.Context()) {
			w.Header().Set("Retry-After", "1")
			writeError(w, busy())
			return
		}
		defer s.lists.leave()
		found, err := h(q)
		if err != nil {
			writeError(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		if r.Method == http.MethodHead {
			return
		}
		if err := found.write(r.Context(), &patientWriter{w: w, control: http.NewResponseController(w)}); err != nil {
			panic(http.ErrAbortHandler) // ends the connection: the reader must see that it is cut short
		}
	}
}

// write streams the list as one api.EndpointList.
func (l *list) write(ctx context.Context, w io.Writer) error {
	// An answer is often short; a long one is written 64 kB at a time.
	out := bufio.NewWriterSize(w, 64<<10)
	var head strings.Builder
	if err := encoder(&head).Encode(l.head); err != nil {
		return err
	}
	const tail = "]}\n" // Items are the last field, and empty
	if _, err := out.WriteString(strings.TrimSuffix(head.String(), tail)); err != nil {
		return err
	}
	items := encoder(out)
	for i, e := range l.entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if i > 0 {
			if err := out.WriteByte(','); err != nil {
				return err
			}
		}
		if err := items.Encode(l.endpoint(e)); err != nil {
			return err
		}
	}
	if _, err := out.WriteString(tail); err != nil {
		return err
	}
	return out.Flush()
}

// patientWriter gives each part of an answer its own time to be taken.
type patientWriter struct {
	w       io.Writer
	control *http.ResponseController
}

func (p *patientWriter) Write(b []byte) (int, error) {
	// A writer without deadlines, as in tests, needs no patience.
	_ = p.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	return p.w.Write(b)
}

// limited is work of which only a few pieces are done at once.
func limited[T any](s *Server, h func(context.Context, request) (*T, error)) http.HandlerFunc {
	return work(s, func(ctx context.Context, r request) (*T, error) {
		if !s.lists.enter(ctx) {
			return nil, busy()
		}
		defer s.lists.leave()
		return h(ctx, r)
	})
}
