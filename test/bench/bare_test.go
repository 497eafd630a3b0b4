package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/test/lab/control"
	"github.com/overland-net/overland/test/lab/kubebin"
	"github.com/overland-net/overland/test/lab/kubeclient"
	"github.com/overland-net/overland/test/lab/ns"
	"github.com/overland-net/overland/test/lab/topology"
)

// bareTimeout bounds the start of a lone API server.
const bareTimeout = time.Minute

// bareAPIServer is how long this machine takes to start one etcd and one API
// server, as the lab does for each cluster, and nothing else.
func bareAPIServer() (took time.Duration, err error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("needs root: the lab is made of namespaces")
	}
	programs, err := kubebin.Build(context.Background(), "../lab/kube", os.Stderr)
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	lab := topology.New(topology.Options{Clusters: []string{"west"}, Nodes: 1, Iptables: "nft"})
	cluster, err := control.New(lab, lab.Clusters[0], dir)
	if err != nil {
		return 0, err
	}
	network, err := newNetwork()
	if err != nil {
		return 0, err
	}
	defer func() { _ = network.Close() }()
	where := ns.Net(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), network.Fd()))
	ctx, cancel := context.WithTimeout(context.Background(), bareTimeout)
	defer cancel()
	began := time.Now()
	for _, p := range cluster.Processes()[:2] {
		stop, err := launch(programs, p, dir, where)
		if err != nil {
			return 0, err
		}
		defer stop()
		if err := answers(ctx, p.Healthz, where.Net); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// newNetwork is a network namespace that lives as long as the file is open or
// a process is in it.
func newNetwork() (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not reused
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = exec.Command("ip", "link", "set", "lo", "up").Run()
		}
		if err != nil {
			made <- result{err: fmt.Errorf("make a network namespace: %w", err)}
			return
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		made <- result{file, err}
	}()
	r := <-made
	return r.file, r.err
}

// launch starts a program of the control plane, which ends with this process.
func launch(programs string, p control.Process, home string, where ns.Set) (stop func(), err error) {
	cmd := exec.Command(filepath.Join(programs, kubebin.Kube), p.Args...)
	cmd.Args[0] = p.Name // the multi-call binary's way to tell what it is
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + home}
	// PID and mount namespaces of its own would make it start slower than alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := where.Start(cmd); err != nil {
		return nil, err
	}
	return func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()         // its status is that of a killed process
	}, nil
}

// answers waits until a health endpoint says that all is well.
func answers(ctx context.Context, url, netns string) error {
	transport := &http.Transport{
		DialContext:       kubeclient.Dialer(netns),
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // nothing is sent
		DisableKeepAlives: true,
	}
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := transport.RoundTrip(request)
		if err == nil {
			_ = response.Body.Close() // the status is all there is to know
			if response.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(response.Status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", url, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
