package kubeclient

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/test/lab/ns"
)

// elsewhere is a network namespace, by way of a thread that is in it.
func elsewhere(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root: makes a network namespace")
	}
	file := make(chan *os.File)
	go func() {
		defer close(file)
		runtime.LockOSThread() // never unlocked: the thread is not reused
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
			return
		}
		file <- f
	}()
	f, ok := <-file
	if !ok {
		t.FailNow()
	}
	t.Cleanup(func() { _ = f.Close() })
	return filepath.Join("/proc/self/fd", strconv.Itoa(int(f.Fd())))
}

func TestDialerDialsInTheNamespace(t *testing.T) {
	netns := elsewhere(t)
	var listener net.Listener
	err := ns.Net(netns).Do(func() (err error) {
		// Abstract names of unix sockets belong to the network namespace.
		listener, err = net.Listen("unix", "@kubeclient-test")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	conn, err := Dialer(netns)(context.Background(), "unix", "@kubeclient-test")
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if conn, err := net.Dial("unix", "@kubeclient-test"); err == nil {
		_ = conn.Close()
		t.Error("the server can be reached from without")
	}
}

func TestConfigReadsTheFileAndDialsInTheNamespace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{name: x, context: {cluster: x, user: x}}]\n" +
		"clusters: [{name: x, cluster: {server: \"https://10.1.255.4:6443\"}}]\nusers: [{name: x, user: {token: t}}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := Config(file, "/run/netns/absent")
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != "https://10.1.255.4:6443" || config.BearerToken != "t" {
		t.Errorf("got %s, %s", config.Host, config.BearerToken)
	}
	if _, err := config.Dial(context.Background(), "tcp", "10.1.255.4:6443"); err == nil || !strings.Contains(err.Error(), "/run/netns/absent") {
		t.Errorf("a namespace that is not there: %v", err)
	}
	if _, err := Config(file+".absent", ""); err == nil || !strings.Contains(err.Error(), "read kubeconfig "+file+".absent: ") {
		t.Errorf("a file that is not there: %v", err)
	}
}
