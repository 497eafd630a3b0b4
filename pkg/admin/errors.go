package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/overland-net/overland/pkg/admin/api"
)

// failure is an error with its HTTP status.
type failure struct {
	status int
	body   api.Error
}

// Error is the message.
func (f *failure) Error() string { return f.body.Message }

func newError(status int, code, format string, args ...any) *failure {
	return &failure{status, api.Error{
		APIVersion: api.Version, Kind: api.KindError, Code: code, Message: fmt.Sprintf(format, args...),
	}}
}

func invalid(format string, args ...any) *failure {
	return newError(http.StatusBadRequest, api.CodeInvalid, format, args...)
}

func notFound(format string, args ...any) *failure {
	return newError(http.StatusNotFound, api.CodeNotFound, format, args...)
}

func starting() *failure {
	return newError(http.StatusServiceUnavailable, api.CodeStarting,
		"the agent is starting and knows nothing yet: ask again in a moment; its status says what it waits for")
}

func busy() *failure {
	return newError(http.StatusServiceUnavailable, api.CodeBusy, "%d lists are being made already: ask again in a moment", maxLists)
}

// writeError answers with an error.
func writeError(w http.ResponseWriter, err error) {
	f := (*failure)(nil)
	if !errors.As(err, &f) {
		f = newError(http.StatusInternalServerError, api.CodeInternal, "%v", err)
	}
	writeJSON(w, f.status, &f.body)
}

// writeJSON answers with one value. Writing fails only if nobody reads.
func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = encoder(w).Encode(value)
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func encoder(w io.Writer) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // it is read by programs and people, never by a browser
	return e
}

// onlyGet refuses what would change something: there is nothing to change.
func onlyGet(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			writeError(w, newError(http.StatusMethodNotAllowed, api.CodeNotAllowed, "%s %s: only GET is served", r.Method, r.URL.Path))
			return
		}
		h.ServeHTTP(w, r)
	})
}
