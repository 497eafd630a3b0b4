package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/attach"
)

// fakeCNI notes what is asked of it, and answers with err.
type fakeCNI struct {
	err   error
	asked string
	added attach.Request
	left  time.Duration
	valid []string
}

func (f *fakeCNI) Add(ctx context.Context, r attach.Request) error {
	f.asked, f.added = "add", r
	if deadline, ok := ctx.Deadline(); ok {
		f.left = time.Until(deadline)
	}
	return f.err
}

func (f *fakeCNI) Check(r attach.Request) error {
	f.asked, f.added = "check", r
	return f.err
}

func (f *fakeCNI) Delete(containerID, ifName string) error {
	f.asked = "delete " + containerID + " " + ifName
	return f.err
}

func (f *fakeCNI) Collect(valid func(containerID, ifName string) bool) error {
	f.asked = "gc"
	for _, id := range []string{"c1", "c2", "c3"} {
		if valid(id, "eth0") {
			f.valid = append(f.valid, id)
		}
	}
	return f.err
}

func (f *fakeCNI) Ready() error {
	f.asked = "status"
	return f.err
}

func (f *fakeCNI) Count() int { return 3 }

func askCNI(t *testing.T, f *fakeCNI, method, path, body string) (int, api.Error) {
	t.Helper()
	s := NewServer(Config{Self: self(), CNI: f}, fixed{world()}, quiet())
	w := httptest.NewRecorder()
	s.socketHandler(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	var e api.Error
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	if w.Code == http.StatusOK && e.Kind != api.KindCNIAnswer || w.Code != http.StatusOK && e.Kind != api.KindError {
		t.Errorf("%s %s: %d with kind %s", method, path, w.Code, e.Kind)
	}
	return w.Code, e
}

const goodAttachment = `{"containerID":"c1","ifName":"eth0","namespace":"demo","pod":"web-0","uid":"01234567-89ab-cdef-0123-456789abcdef",
	"peerIndex":7,"addresses":["10.1.0.7","fd00::7"],"timeoutMillis":10000,"unknown":"ignored"}`

func TestCNIRequestsReachTheManager(t *testing.T) {
	f := &fakeCNI{}
	for path, tt := range map[string]struct{ body, want string }{
		api.PathCNIAdd:    {goodAttachment, "add"},
		api.PathCNICheck:  {goodAttachment, "check"},
		api.PathCNIDelete: {`{"containerID":"c1","ifName":"eth0"}`, "delete c1 eth0"},
		api.PathCNIGC:     {`{"items":[{"containerID":"c2","ifName":"eth0"},{"containerID":"c3","ifName":"eth1"}]}`, "gc"},
	} {
		if code, e := askCNI(t, f, http.MethodPost, path, tt.body); code != http.StatusOK || f.asked != tt.want {
			t.Errorf("%s: %d %s, asked for %q", path, code, e.Message, f.asked)
		}
	}
	if code, _ := askCNI(t, f, http.MethodGet, api.PathCNIStatus, ""); code != http.StatusOK || f.asked != "status" {
		t.Errorf("status: %d, asked for %q", code, f.asked)
	}
	if f.added.Pod != "web-0" || f.added.Index != 7 || len(f.added.Addrs) != 2 || f.added.UID.String() != "01234567-89ab-cdef-0123-456789abcdef" {
		t.Errorf("got %+v", f.added)
	}
	if f.left < 8*time.Second || f.left > 9500*time.Millisecond {
		t.Errorf("an ADD that is waited for 10 s has %s", f.left)
	}
	if !reflect.DeepEqual(f.valid, []string{"c2"}) {
		t.Errorf("valid are %q", f.valid)
	}
}

func TestCNIErrorsHaveTheirCodes(t *testing.T) {
	for want, err := range map[string]error{
		api.CodeConflict: fmt.Errorf("%w: x", attach.ErrConflict), api.CodeNotFound: attach.ErrNoPod,
		api.CodeNotEnforced: attach.ErrNotEnforced, api.CodeInternal: errors.New("disk full"),
	} {
		code, e := askCNI(t, &fakeCNI{err: err}, http.MethodPost, api.PathCNIAdd, goodAttachment)
		if e.Code != want || code < 400 || !strings.Contains(e.Message, err.Error()) {
			t.Errorf("%v: %d %+v, want code %s", err, code, e, want)
		}
	}
}

func TestCNIRequestsAreRefusedByField(t *testing.T) {
	replace := func(old, text string) string { return strings.Replace(goodAttachment, old, text, 1) }
	for _, tt := range []struct{ method, path, body, want string }{
		{http.MethodGet, api.PathCNIAdd, "", "only POST"},
		{http.MethodDelete, api.PathCNIDelete, "", "only POST"},
		{http.MethodPost, api.PathCNIStatus, "", "only GET"},
		{http.MethodPost, api.PathStatus, "", "only GET"},
		{http.MethodPost, api.PathCNIAdd, "", "cannot be read"},
		{http.MethodPost, api.PathCNIAdd, "[]", "cannot be read"},
		{http.MethodPost, api.PathCNIAdd, `{"containerID":"` + strings.Repeat("x", maxBody), "cannot be read"},
		{http.MethodPost, api.PathCNIAdd, replace(`"c1"`, `""`), "containerID"},
		{http.MethodPost, api.PathCNIAdd, replace(`"eth0"`, `"`+strings.Repeat("x", 300)+`"`), "ifName"},
		{http.MethodPost, api.PathCNIAdd, replace(`"demo"`, `"../demo"`), "namespace"},
		{http.MethodPost, api.PathCNIAdd, replace(`"web-0"`, `"web\n0"`), "pod"},
		{http.MethodPost, api.PathCNIAdd, replace(`7,"a`, `0,"a`), "peerIndex"},
		{http.MethodPost, api.PathCNIAdd, replace(`"10.1.0.7"`, `"10.1.0.7/32"`), "addresses"},
		{http.MethodPost, api.PathCNIAdd, replace(`"fd00::7"`, `"::ffff:10.1.0.7"`), "addresses"},
		{http.MethodPost, api.PathCNIAdd, replace(`["10.1.0.7","fd00::7"]`, `[]`), "addresses"},
		{http.MethodPost, api.PathCNIGC, `{"items":[{"containerID":"c"}]}`, "ifName"},
	} {
		f := &fakeCNI{}
		code, e := askCNI(t, f, tt.method, tt.path, tt.body)
		if code < 400 || code >= 500 || !strings.Contains(e.Message, tt.want) || f.asked != "" {
			t.Errorf("%s %s %.80s: %d %s, want %q; asked for %q", tt.method, tt.path, tt.body, code, e.Message, tt.want, f.asked)
		}
	}
}

func TestWithoutCNIItsPathsAreNotThere(t *testing.T) {
	s := NewServer(Config{Self: self()}, fixed{world()}, quiet())
	w := httptest.NewRecorder()
	s.socketHandler(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, api.PathCNIStatus, nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("got %d", w.Code)
	}
}
