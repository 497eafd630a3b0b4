package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/overland-net/overland/test/lab/control"
	"github.com/overland-net/overland/test/lab/kubebin"
	"github.com/overland-net/overland/test/lab/kubeclient"
	"github.com/overland-net/overland/test/lab/ns"
	"github.com/overland-net/overland/test/lab/topology"
)

// repository is the root of the checkout, seen from this package.
const repository = "../../.."

// startTimeout is for a machine that is busy with other things; some 5 s are
// usual.
const startTimeout = 2 * time.Minute

// server is an API server with its etcd. Both are in the network and process
// namespaces of a first process, which ends when the tests' process does, and
// the kernel then ends all that is in its process namespace.
type server struct {
	folder  string
	config  *rest.Config
	cluster *control.Cluster
	where   ns.Set
	first   *exec.Cmd
	hold    io.Closer // the first process's standard input
	others  []*exec.Cmd
	log     *os.File
}

// startServer starts one, with its files in a temporary folder.
func startServer() (*server, error) {
	folder, err := os.MkdirTemp("", "overland-e2e-api-")
	if err != nil {
		return nil, fmt.Errorf("make the server's folder: %w", err)
	}
	s := &server{folder: folder}
	if err := s.start(); err != nil {
		text, _ := os.ReadFile(filepath.Join(folder, "log")) // what can be read is of help
		return nil, errors.Join(fmt.Errorf("%w; its log ends with:\n%s", err, text[max(0, len(text)-8000):]), s.stop())
	}
	return s, nil
}

func (s *server) start() error {
	dir, built, err := kubebin.Dir(filepath.Join(repository, "test/lab/kube"))
	if err != nil {
		return err
	}
	if !built {
		return errors.New("the Kubernetes programs are not built: run `make kube`")
	}
	for _, name := range kubebin.Programs() {
		if err := os.Symlink(filepath.Join(dir, kubebin.Kube), s.program(name)); err != nil {
			return err
		}
	}
	if s.log, err = os.Create(filepath.Join(s.folder, "log")); err != nil {
		return err
	}
	lab := topology.New(topology.Options{Clusters: []string{"west"}, Nodes: 1, Iptables: "nft"})
	if s.cluster, err = control.New(lab, lab.Clusters[0], filepath.Join(s.folder, "cluster")); err != nil {
		return err
	}
	if err := s.startFirst(s.cluster.ControlPlane.Addresses.V4.String()); err != nil {
		return err
	}
	for _, p := range s.cluster.Processes()[:2] { // etcd and the API server
		cmd := exec.Command(s.program(p.Name), p.Args...)
		cmd.Stdout, cmd.Stderr = s.log, s.log
		if err := s.where.Start(cmd); err != nil {
			return err
		}
		s.others = append(s.others, cmd)
	}
	if s.config, err = kubeclient.Config(s.cluster.Kubeconfig(), s.where.Net); err != nil {
		return err
	}
	return s.ready()
}

func (s *server) program(name string) string { return filepath.Join(s.folder, name) }

// startFirst starts the first process. The control plane's address is one of
// the loopback interface, which is the namespace's only one.
func (s *server) startFirst(address string) error {
	s.first = exec.Command("/bin/sh", "-c", "ip link set lo up && ip address add "+address+"/32 dev lo && echo up && cat >/dev/null")
	s.first.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID}
	s.first.Stderr = s.log
	hold, err := s.first.StdinPipe()
	if err != nil {
		return err
	}
	out, err := s.first.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.first.Start(); err != nil {
		return fmt.Errorf("make the server's namespaces (root is needed): %w", err)
	}
	s.hold = hold
	if _, err := io.ReadFull(out, make([]byte, len("up\n"))); err != nil {
		return fmt.Errorf("set up the server's network namespace: %w", err)
	}
	all := ns.OfProcess("/proc", s.first.Process.Pid)
	s.where = ns.Set{Net: all.Net, PID: all.PID}
	return nil
}

// ready waits until the API server says so.
func (s *server) ready() error {
	client, err := discovery.NewDiscoveryClientForConfig(s.config)
	if err != nil {
		return err
	}
	var last error
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		last = client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		cancel()
		if last == nil {
			return nil
		}
	}
	return fmt.Errorf("the API server was not ready in %s: %w", startTimeout, last)
}

// stop ends all processes and removes the folder.
func (s *server) stop() error {
	if s.hold != nil {
		// With its input closed the first process ends, and the kernel kills the
		// others; it is gone only when those have been waited for.
		_ = s.hold.Close()
		for _, cmd := range s.others {
			_ = cmd.Wait() // killed
		}
		_ = s.first.Wait() // closed, or killed: both are its end
	}
	if s.log != nil {
		_ = s.log.Close()
	}
	return os.RemoveAll(s.folder)
}

// answer is what a program said.
type answer struct {
	out, complaint string
	err            error
}

func (a answer) String() string { return fmt.Sprintf("%v: %s%s", a.err, a.out, a.complaint) }

// kubectl runs kubectl as the cluster's administrator.
func (s *server) kubectl(ctx context.Context, stdin string, args ...string) answer {
	cmd := exec.CommandContext(ctx, s.program("kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.cluster.Kubeconfig(), "HOME="+s.folder)
	var out, complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &complaint
	err := s.where.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	return answer{out.String(), complaint.String(), err}
}
