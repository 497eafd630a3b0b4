package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/overland-net/overland/test/lab/kubelet/podspec"
	"github.com/overland-net/overland/test/lab/runtime"
)

// apiServer is the name in the certificate that the API server calls with.
const apiServer = "kube-apiserver-kubelet-client"

// server is what the API server calls: logs, exec, attach, port-forward.
type server struct {
	k    *Kubelet
	http *http.Server
}

func newServer(k *Kubelet) (*server, error) {
	pair, err := tls.LoadX509KeyPair(k.cfg.ServingCert, k.cfg.ServingKey)
	if err != nil {
		return nil, fmt.Errorf("load the serving certificate: %w", err)
	}
	ca, err := os.ReadFile(k.cfg.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("load the callers' CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("load the callers' CA: %s has no certificate", k.cfg.ClientCA)
	}
	s := &server{k: k}
	s.http = &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: 30 * time.Second,
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
			ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven,
		},
	}
	return s, nil
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /pods", s.pods)
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.logs)
	for _, method := range []string{"GET", "POST"} {
		mux.HandleFunc(method+" /exec/{namespace}/{pod}/{container}", s.exec)
		mux.HandleFunc(method+" /exec/{namespace}/{pod}/{uid}/{container}", s.exec)
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}", s.portForward)
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}/{uid}", s.portForward)
		mux.HandleFunc(method+" /attach/{namespace}/{pod}/{container}", s.attach)
		mux.HandleFunc(method+" /attach/{namespace}/{pod}/{uid}/{container}", s.attach)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if code, why := allowed(r.TLS); code != http.StatusOK {
			answer(w, code, why)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// allowed lets in the API server and administrators, by their certificates.
func allowed(state *tls.ConnectionState) (code int, why string) {
	if state == nil || len(state.VerifiedChains) == 0 {
		return http.StatusUnauthorized, "Unauthorized"
	}
	who := state.PeerCertificates[0].Subject
	if who.CommonName == apiServer || slices.Contains(who.Organization, "system:masters") {
		return http.StatusOK, ""
	}
	return http.StatusForbidden, fmt.Sprintf("Forbidden (user=%s)", who.CommonName)
}

// answer sends a short text. Whether it arrives is the caller's concern.
func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, text)
}

// run serves on all addresses of both families until the context ends.
func (s *server) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, network := range []string{"tcp4", "tcp6"} {
		listener, err := net.Listen(network, ":"+strconv.Itoa(Port))
		if err != nil && network == "tcp6" && len(s.k.cfg.Addresses) == 1 {
			continue // a kernel without IPv6 will do for a node without
		}
		if err != nil {
			return fmt.Errorf("serve on port %d (%s): %w", Port, network, err)
		}
		group.Go(func() error {
			if err := s.http.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve on port %d (%s): %w", Port, network, err)
			}
			return nil
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		return s.http.Close()
	})
	return group.Wait()
}

func (s *server) pods(w http.ResponseWriter, _ *http.Request) {
	list := v1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}}
	for _, o := range s.k.pods.GetStore().List() {
		list.Items = append(list.Items, *o.(*v1.Pod))
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list) // an error is the caller's going away
}

// pod finds the pod that a request names, or answers that there is none.
func (s *server) pod(w http.ResponseWriter, r *http.Request) *v1.Pod {
	name := r.PathValue("namespace") + "/" + r.PathValue("pod")
	o, ok, err := s.k.pods.GetStore().GetByKey(name)
	pod, isPod := o.(*v1.Pod)
	uid := types.UID(r.PathValue("uid"))
	if err != nil || !ok || !isPod || uid != "" && uid != pod.UID {
		answer(w, http.StatusNotFound, fmt.Sprintf("pod %q does not exist on node %s", name, s.k.cfg.NodeName))
		return nil
	}
	return pod
}

// running finds the running container that a request names, or answers why
// there is none.
func (s *server) running(w http.ResponseWriter, r *http.Request) (runtime.Container, bool) {
	pod := s.pod(w, r)
	if pod == nil {
		return runtime.Container{}, false
	}
	name := r.PathValue("container")
	if podspec.FindContainer(pod, name) == nil {
		answer(w, http.StatusNotFound, fmt.Sprintf("container %s not found in pod %s", name, pod.Name))
		return runtime.Container{}, false
	}
	c, ok := s.k.observe(pod.UID).Latest(name)
	if !ok || c.State != runtime.Running {
		answer(w, http.StatusNotFound, fmt.Sprintf("unable to upgrade connection: container %s is not running in pod %s", name, pod.Name))
		return c, false
	}
	return c, true
}
