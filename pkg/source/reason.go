package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/overland-net/overland/pkg/model"
)

// Failure is why a cluster's API server cannot be used: a reason of pkg/model and
// a message that says what is wrong and the one thing to do about it.
type Failure struct {
	Reason, Message string
	cause           error
}

// Error is the message.
func (f *Failure) Error() string { return f.Message }

// Unwrap gives what the failure was made from; nil if it was found here.
func (f *Failure) Unwrap() error { return f.cause }

func failure(reason, format string, args ...any) *Failure {
	return &Failure{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Explain tells failures of connections and requests apart (semantics 3.5). The
// words say what was asked of which server, as in "list pods of
// https://10.0.0.1:6443"; expires is when the credentials do, zero if unknown.
func Explain(err error, asked string, expires, now time.Time) *Failure {
	var known *Failure
	if errors.As(err, &known) {
		return known
	}
	f := explainTLS(err)
	for _, explain := range []func(error) *Failure{explainStatus, explainNetwork} {
		if f == nil {
			f = explain(err)
		}
	}
	if f == nil {
		f = failure(model.ReasonServerError, "the answer is not that of a Kubernetes API server (%s): check the server's address in the kubeconfig", words(err))
	}
	if f.Reason == model.ReasonUnauthorized && !expires.IsZero() && !now.Before(expires) {
		f = failure(model.ReasonTokenExpired, "the credentials expired at %s: put new ones into the Secret", expires.UTC().Format(time.RFC3339))
	}
	f.Message, f.cause = asked+": "+f.Message, err
	return f
}

// words are an error's text, bounded: parts of it may come from the server.
func words(err error) string { return printable(err.Error(), 240) }

func explainTLS(err error) *Failure {
	var (
		unknown  x509.UnknownAuthorityError
		host     x509.HostnameError
		invalid  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
		record   tls.RecordHeaderError
		alert    tls.AlertError
		mismatch = "the server's certificate is not for that name or address (%s): use an address that the certificate lists, or tls-server-name in the kubeconfig"
	)
	switch {
	case errors.As(err, &unknown):
		return failure(model.ReasonUntrustedServer, "the server's certificate is not of the given CA: put the cluster's CA into certificate-authority-data of the kubeconfig")
	case errors.As(err, &host):
		return failure(model.ReasonUntrustedServer, mismatch, words(host))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return failure(model.ReasonUntrustedServer, "the server's certificate is expired or not valid yet (%s): renew it, or set this node's clock", words(invalid))
	case errors.As(err, &invalid):
		return failure(model.ReasonUntrustedServer, "the server's certificate is not valid (%s): renew it", words(invalid))
	case errors.As(err, &verify):
		return failure(model.ReasonUntrustedServer, "the server's certificate is not accepted (%s): check certificate-authority-data of the kubeconfig", words(verify.Err))
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return failure(model.ReasonServerError, "the server does not speak TLS there: check the port in the kubeconfig's server")
	case errors.As(err, &alert):
		return failure(model.ReasonUnauthorized, "the server refuses the TLS handshake (%s): put a client certificate of that cluster into the kubeconfig", words(alert))
	}
	return nil
}

func explainStatus(err error) *Failure {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return nil
	}
	s := status.Status()
	said := printable(s.Message, 240)
	switch code := s.Code; {
	case code == http.StatusUnauthorized:
		return failure(model.ReasonUnauthorized, "the credentials are not accepted: put valid ones into the Secret")
	case code == http.StatusForbidden:
		return failure(model.ReasonForbidden, "not allowed (%s): grant it to that account, as overland connect does", said)
	case code == http.StatusNotFound:
		return failure(model.ReasonServerError, "not found (%s): check the server's address in the kubeconfig", said)
	case code == http.StatusTooManyRequests:
		return failure(model.ReasonServerError, "the server is too busy (%s): it is retried; look at its load if it stays so", said)
	case s.Reason == "" && code < http.StatusInternalServerError:
		return nil
	default:
		return failure(model.ReasonServerError, "the server answers with an error (%d: %s): look at its log", code, said)
	}
}

func explainNetwork(err error) *Failure {
	var (
		dns     *net.DNSError
		network net.Error
		address *net.AddrError
	)
	switch {
	case errors.As(err, &dns):
		return failure(model.ReasonNameNotResolved, "the server's name %q has no address for this node (%s): check the name, or the node's DNS", printable(dns.Name, 253), words(dns))
	case errors.Is(err, syscall.ECONNREFUSED):
		return failure(model.ReasonUnreachable, "the connection is refused: check that the API server runs there and the port in the kubeconfig")
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return failure(model.ReasonUnreachable, "there is no route to it: check the peering and routes between the networks")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return failure(model.ReasonUnreachable, "no answer in time: check the peering, firewalls and security rules between this node and the server")
	case errors.Is(err, errRedirect):
		return failure(model.ReasonServerError, "%s: check the server's address in the kubeconfig", errRedirect)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		errors.Is(err, net.ErrClosed), errors.As(err, &address), brokenHTTP2(err):
		return failure(model.ReasonUnreachable, "the connection broke (%s): check the network and whether the API server restarts", words(err))
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return failure(model.ReasonUnreachable, "no connection (%s): check the network to the server", words(op))
	}
	return nil
}

// brokenHTTP2 tells the errors of net/http that have no type of their own.
func brokenHTTP2(err error) bool {
	text := err.Error()
	return strings.Contains(text, "stream error: stream ID") || strings.Contains(text, "http2: ") || strings.Contains(text, "http: read on closed response body")
}
