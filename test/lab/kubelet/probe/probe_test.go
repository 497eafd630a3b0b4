package probe

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestTrackerDecidesByThresholds(t *testing.T) {
	for name, c := range map[string]struct {
		success, failure int32
		initial          Result
		answers          string // s, f or ? for unknown
		want             Result
	}{
		"one success is enough":             {1, 3, Failure, "s", Success},
		"one failure is not":                {1, 3, Success, "ff", Success},
		"three in a row are":                {1, 3, Success, "fff", Failure},
		"a success in between starts again": {1, 3, Success, "ffsff", Success},
		"two successes needed":              {2, 1, Failure, "s", Failure},
		"two successes come":                {2, 1, Failure, "ss", Success},
		"unknown says nothing":              {1, 1, Success, "???", Success},
		"no thresholds mean one":            {0, 0, Success, "f", Failure},
	} {
		tracker := NewTracker(&v1.Probe{SuccessThreshold: c.success, FailureThreshold: c.failure}, c.initial)
		for _, a := range c.answers {
			tracker.Observe(map[rune]Result{'s': Success, 'f': Failure, '?': Unknown}[a])
		}
		if tracker.Result() != c.want {
			t.Errorf("%s: %v, want %v", name, tracker.Result(), c.want)
		}
	}
}

func TestHTTPProbe(t *testing.T) {
	headers := make(chan [2]string, 8)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers <- [2]string{r.UserAgent(), r.Host}
		switch r.URL.Path {
		case "/bad":
			w.WriteHeader(http.StatusInternalServerError)
		case "/away":
			http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
		case "/slow":
			time.Sleep(1200 * time.Millisecond)
		}
	}))
	defer server.Close()
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(at.Port())
	if err != nil {
		t.Fatal(err)
	}
	to := Target{PodIP: "127.0.0.1", Container: &v1.Container{Ports: []v1.ContainerPort{{Name: "http", ContainerPort: int32(number)}}}}
	for path, want := range map[string]Result{"/ok?x=1": Success, "ok": Success, "/bad": Failure, "/away": Success, "/slow": Failure} {
		spec := &v1.Probe{ProbeHandler: v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{
			Path: path, Port: intstr.FromString("http"), HTTPHeaders: []v1.HTTPHeader{{Name: "Host", Value: "shop.example"}},
		}}}
		if got, why := Ask(context.Background(), spec, to); got != want {
			t.Errorf("%s: %v %s", path, got, why)
		}
	}
	if sent := <-headers; !strings.HasPrefix(sent[0], "kube-probe/") || sent[1] != "shop.example" {
		t.Errorf("agent and host %q", sent)
	}
}

func TestTCPProbe(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	spec := &v1.Probe{ProbeHandler: v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt32(int32(port))}}}
	to := Target{PodIP: "127.0.0.1", Container: &v1.Container{}}
	if got, why := Ask(context.Background(), spec, to); got != Success {
		t.Errorf("open port: %s", why)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if got, _ := Ask(context.Background(), spec, to); got != Failure {
		t.Error("closed port: no failure")
	}
}

func TestExecProbe(t *testing.T) {
	spec := &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"x"}}}, TimeoutSeconds: 1}
	for name, c := range map[string]struct {
		code int
		err  error
		wait bool
		want Result
	}{
		"good": {want: Success}, "bad": {code: 1, want: Failure},
		"could not be asked": {err: errors.New("gone"), want: Unknown}, "too slow": {wait: true, want: Failure},
	} {
		to := Target{Exec: func(ctx context.Context, _ []string) (string, int, error) {
			if c.wait {
				<-ctx.Done()
				return "", 0, ctx.Err()
			}
			return "text", c.code, c.err
		}}
		if got, why := Ask(context.Background(), spec, to); got != c.want {
			t.Errorf("%s: %v %s", name, got, why)
		}
	}
}

func TestPortByName(t *testing.T) {
	c := &v1.Container{Name: "c", Ports: []v1.ContainerPort{{Name: "http", ContainerPort: 80}}}
	if p, err := Port(intstr.FromString("http"), c); err != nil || p != "80" {
		t.Errorf("%s, %v", p, err)
	}
	if p, err := Port(intstr.FromString("81"), c); err != nil || p != "81" {
		t.Errorf("%s, %v", p, err)
	}
	if _, err := Port(intstr.FromString("none"), c); err == nil {
		t.Error("unknown name: no error")
	}
}
