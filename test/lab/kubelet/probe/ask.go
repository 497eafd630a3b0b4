package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// maxOutput bounds what of a probe's output is read and shown, in bytes.
const maxOutput = 10 << 10

// Target is the container that is asked.
type Target struct {
	Container *v1.Container
	PodIP     string
	// Exec runs a command in the container and returns its output and exit code.
	Exec func(ctx context.Context, command []string) (output string, code int, err error)
}

// Ask runs the probe once, within its timeout. The text says why it failed. An
// Unknown answer is to be ignored: it says nothing about the container.
func Ask(ctx context.Context, spec *v1.Probe, to Target) (Result, string) {
	timeout := time.Duration(max(1, spec.TimeoutSeconds)) * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case spec.Exec != nil:
		return askExec(ctx, spec.Exec.Command, to)
	case spec.HTTPGet != nil:
		response, err := Get(ctx, spec.HTTPGet, to.Container, to.PodIP, "kube-probe/1.37")
		if err != nil {
			return Failure, err.Error()
		}
		if response >= 200 && response < 400 {
			return Success, ""
		}
		return Failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", response)
	case spec.TCPSocket != nil:
		return askTCP(ctx, spec.TCPSocket, to)
	case spec.GRPC != nil:
		return askGRPC(ctx, spec.GRPC, to)
	}
	return Unknown, "the probe has no handler"
}

func askExec(ctx context.Context, command []string, to Target) (Result, string) {
	output, code, err := to.Exec(ctx, command)
	switch {
	case ctx.Err() != nil:
		return Failure, fmt.Sprintf("command timed out: %q", command)
	case err != nil:
		return Unknown, err.Error()
	case code != 0:
		return Failure, output[:min(len(output), maxOutput)]
	}
	return Success, ""
}

func askTCP(ctx context.Context, action *v1.TCPSocketAction, to Target) (Result, string) {
	port, err := Port(action.Port, to.Container)
	if err != nil {
		return Failure, err.Error()
	}
	host := action.Host
	if host == "" {
		host = to.PodIP
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return Failure, err.Error()
	}
	_ = conn.Close() // that it opened is the answer
	return Success, ""
}

func askGRPC(ctx context.Context, action *v1.GRPCAction, to Target) (Result, string) {
	address := net.JoinHostPort(to.PodIP, strconv.Itoa(int(action.Port)))
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return Failure, err.Error()
	}
	defer func() { _ = conn.Close() }() // nothing more is sent
	service := ""
	if action.Service != nil {
		service = *action.Service
	}
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		return Failure, fmt.Sprintf("service unhealthy: %v", err)
	}
	if answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return Failure, fmt.Sprintf("service unhealthy (responded with %q)", answer.GetStatus())
	}
	return Success, ""
}

// Port is the number of a port that may be given by its name in the container.
func Port(port intstr.IntOrString, c *v1.Container) (string, error) {
	if port.Type == intstr.Int {
		return strconv.Itoa(port.IntValue()), nil
	}
	for _, p := range c.Ports {
		if p.Name == port.StrVal {
			return strconv.Itoa(int(p.ContainerPort)), nil
		}
	}
	if _, err := strconv.ParseUint(port.StrVal, 10, 16); err == nil {
		return port.StrVal, nil
	}
	return "", fmt.Errorf("container %s has no port named %q", c.Name, port.StrVal)
}

// Get does the action's request and returns the status code of the answer.
// Certificates are not checked, and a redirect to another host is not followed.
func Get(ctx context.Context, action *v1.HTTPGetAction, c *v1.Container, podIP, agent string) (int, error) {
	port, err := Port(action.Port, c)
	if err != nil {
		return 0, err
	}
	host := action.Host
	if host == "" {
		host = podIP
	}
	at, err := url.Parse(action.Path)
	if err != nil {
		return 0, fmt.Errorf("path of the request: %w", err)
	}
	at.Scheme, at.Host = "http", net.JoinHostPort(host, port)
	if action.Scheme == v1.URISchemeHTTPS {
		at.Scheme = "https"
	}
	if !strings.HasPrefix(at.Path, "/") {
		at.Path = "/" + at.Path
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return 0, fmt.Errorf("make the request: %w", err)
	}
	request.Header.Set("User-Agent", agent)
	request.Header.Set("Accept", "*/*")
	for _, h := range action.HTTPHeaders {
		request.Header.Set(h.Name, h.Value)
	}
	request.Host = request.Header.Get("Host")
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
		CheckRedirect: sameHost,
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }() // read, and thrown away
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxOutput)); err != nil {
		return 0, fmt.Errorf("read the answer: %w", err)
	}
	return response.StatusCode, nil
}

func sameHost(next *http.Request, before []*http.Request) error {
	if next.URL.Hostname() != before[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(before) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}
