package source

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/overland-net/overland/pkg/model"
)

// certificate is one for a name, signed by itself, good until a time.
func certificate(t *testing.T, name string, until time.Time) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: until.Add(-24 * time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, DNSNames: []string{name},
		IPAddresses: nil,
	}
	if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(t *testing.T, c tls.Certificate) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func tlsServer(t *testing.T, c tls.Certificate, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{c}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

func answers(code int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func statusJSON(code int, reason string) string {
	return fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d,"reason":%q,"message":"because"}`, code, reason)
}

// TestFailuresAreToldApart_3_5 makes each failure with a real server.
func TestFailuresAreToldApart_3_5(t *testing.T) {
	good, ca := certificate(t, "127.0.0.1", time.Now().Add(time.Hour))
	_, otherCA := certificate(t, "127.0.0.1", time.Now().Add(time.Hour))
	wrongName, wrongNameCA := certificate(t, "api.example", time.Now().Add(time.Hour))
	expired, expiredCA := certificate(t, "127.0.0.1", time.Now().Add(-time.Hour))
	version := answers(200, "application/json", `{"major":"1","minor":"30","gitVersion":"v1.30.0"}`)

	refused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = refused.Close()
	hole, err := net.Listen("tcp", "127.0.0.1:0") // accepts by the kernel, and never says anything
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hole.Close() })
	plain := httptest.NewServer(version)
	t.Cleanup(plain.Close)

	tests := []struct {
		name   string
		url    string
		ca     []byte
		expire time.Time
		reason string
		says   string
	}{
		{"wrong CA", tlsServer(t, good, version), otherCA, time.Time{}, model.ReasonUntrustedServer, "certificate-authority-data"},
		{"wrong name in the certificate", tlsServer(t, wrongName, version), wrongNameCA, time.Time{}, model.ReasonUntrustedServer, "tls-server-name"},
		{"expired certificate", tlsServer(t, expired, version), expiredCA, time.Time{}, model.ReasonUntrustedServer, "renew"},
		{"not accepted", tlsServer(t, good, answers(401, "application/json", statusJSON(401, "Unauthorized"))), ca, time.Time{}, model.ReasonUnauthorized, "Secret"},
		{"expired token", tlsServer(t, good, answers(401, "application/json", statusJSON(401, "Unauthorized"))), ca, time.Now().Add(-time.Minute), model.ReasonTokenExpired, "expired at"},
		{"not allowed", tlsServer(t, good, answers(403, "application/json", statusJSON(403, "Forbidden"))), ca, time.Time{}, model.ReasonForbidden, "grant"},
		{"server error", tlsServer(t, good, answers(500, "application/json", statusJSON(500, "InternalError"))), ca, time.Time{}, model.ReasonServerError, "500"},
		{"bad gateway", tlsServer(t, good, answers(502, "text/html", "<html>bad gateway</html>")), ca, time.Time{}, model.ReasonServerError, "502"},
		{"a web site", tlsServer(t, good, answers(200, "text/html", "<html>hello</html>")), ca, time.Time{}, model.ReasonServerError, "not that of a Kubernetes API server"},
		{"a web site without that page", tlsServer(t, good, answers(404, "text/html", "<html>\x1b[31mno</html>")), ca, time.Time{}, model.ReasonServerError, "server's address"},
		{"a redirect", tlsServer(t, good, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/metadata", http.StatusFound)
		}), ca, time.Time{}, model.ReasonServerError, "redirect"},
		{"an endless answer", tlsServer(t, good, func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}), ca, time.Time{}, model.ReasonServerError, "longer than it may be"},
		{"no TLS", strings.Replace(plain.URL, "http:", "https:", 1), ca, time.Time{}, model.ReasonServerError, "does not speak TLS"},
		{"connection refused", "https://" + refused.Addr().String(), ca, time.Time{}, model.ReasonUnreachable, "refused"},
		{"black hole", "https://" + hole.Addr().String(), ca, time.Time{}, model.ReasonUnreachable, "no answer in time"},
		{"no such name", "https://no-such-host.invalid:6443", ca, time.Time{}, model.ReasonNameNotResolved, "no-such-host.invalid"},
		{"too old", tlsServer(t, good, answers(200, "application/json", `{"major":"1","minor":"24+","gitVersion":"v1.24.9"}`)), ca, time.Time{}, model.ReasonVersionTooOld, "1.25"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			timing := quick()
			timing.ProbeTimeout = 500 * time.Millisecond
			cfg := &config{name: "canada", connect: &rest.Config{Host: tt.url, TLSClientConfig: rest.TLSClientConfig{CAData: tt.ca}}, expire: tt.expire, timing: timing}
			c, err := dial(cfg, func() {})
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			_, err = ask(quietly(context.Background()), cfg.timing, c.version)
			if err == nil {
				t.Fatal("no error")
			}
			f := Explain(err, "reach it", tt.expire, time.Now())
			if f.Reason != tt.reason || !strings.Contains(f.Message, tt.says) || !strings.HasPrefix(f.Message, "reach it: ") && tt.reason != model.ReasonVersionTooOld {
				t.Errorf("reason %s: %s\nexpected %s, with %q\nerror: %v", f.Reason, f.Message, tt.reason, tt.says, err)
			}
			if strings.ContainsRune(f.Message, '\x1b') {
				t.Errorf("a server can write to the terminal: %q", f.Message)
			}
		})
	}
}

func TestForbiddenKindsHaveTheirReason_3_5(t *testing.T) {
	for resource, want := range map[string]string{
		"pods": model.ReasonForbidden, "watch pods": model.ReasonForbidden, "nodes": model.ReasonInSync, "namespaces": model.ReasonInSync,
	} {
		t.Run(resource, func(t *testing.T) {
			a, s := newFakeAPI(t), newFakeSink()
			a.put(pod("demo", "a", "10.1.0.1", nil))
			a.forbidden[resource] = true
			start(t, remoteConfig(a), s)
			s.waitReason(t, "canada", want)
			if want == model.ReasonInSync {
				eventually(t, "it is told what is not readable", func() bool { return len(s.status("canada").NotReadable) == 1 })
			}
			a.set(func() { a.forbidden = map[string]bool{} })
			s.waitReason(t, "canada", model.ReasonInSync)
			waitTruth(t, a, s, "canada", nil)
			eventually(t, "all is readable", func() bool { return len(s.status("canada").NotReadable) == 0 })
		})
	}
}

func TestConnectionIsHTTP2(t *testing.T) {
	a, s := newFakeAPI(t), newFakeSink()
	protocol := make(chan string, 100)
	a.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case protocol <- r.Proto:
		default:
		}
		return false
	}
	start(t, remoteConfig(a), s)
	if p := <-protocol; p != "HTTP/2.0" {
		t.Errorf("the connection speaks %s: pings will not find it dead", p)
	}
}
