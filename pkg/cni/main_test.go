package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/overland-net/overland/pkg/admin/api"
)

// asPlugin, in the environment, makes the test binary the plugin, so that tests
// call it as a runtime does: as a process, many at a time.
const asPlugin = "OVERLAND_CNI_TEST_AS"

func TestMain(m *testing.M) {
	switch {
	case filepath.Base(os.Args[0]) == firstPlugin:
		firstPluginMain()
		os.Exit(0)
	case os.Getenv(asPlugin) == "plugin":
		os.Exit(Main())
	case os.Getenv(asPlugin) == "panic":
		p := &plugin{stderr: os.Stderr}
		os.Exit(run(p, skel.CNIFuncs{Add: func(*skel.CmdArgs) error {
			p.result = []byte("half a result")
			panic("out of cheese")
		}}, os.Stdout))
	}
	os.Exit(m.Run())
}

// node is a network namespace that stands for the node's.
type node struct {
	t  testing.TB
	ns netns.NsHandle
}

func newNode(t testing.TB) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root: makes network namespaces")
	}
	return &node{t, newNamespace(t)}
}

// newNamespace makes a network namespace that lives until the test ends.
func newNamespace(t testing.TB) netns.NsHandle {
	t.Helper()
	own, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Close() }()
	var ns netns.NsHandle
	// Entering one's own brings the thread back out of the one that is made.
	err = inNamespace(own, func() (err error) { ns, err = netns.New(); return err })
	if err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// inNamespace runs f with the thread in ns.
func inNamespace(ns netns.NsHandle, f func() error) error {
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		return err
	}
	defer func() { _ = own.Close() }()
	if err := netns.Set(ns); err != nil {
		return err
	}
	result := f()
	if err := netns.Set(own); err != nil {
		return errors.Join(result, err) // the thread ends with the goroutine
	}
	runtime.UnlockOSThread()
	return result
}

func pathOf(ns netns.NsHandle) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(ns)) }

// sandbox is a pod's namespace with eth0, whose peer is the node's.
type sandbox struct {
	netns string
	peer  int
}

func (n *node) sandbox(hostVeth string) sandbox {
	n.t.Helper()
	ns := newNamespace(n.t)
	index, err := n.connect(ns, hostVeth)
	if err != nil {
		n.t.Fatal(err)
	}
	return sandbox{pathOf(ns), index}
}

// connect gives a namespace eth0 and returns the index of its peer.
func (n *node) connect(ns netns.NsHandle, hostVeth string) (index int, err error) {
	err = inNamespace(n.ns, func() error {
		if err := addVeth(hostVeth, "eth0", ns); err != nil {
			return err
		}
		l, err := netlink.LinkByName(hostVeth)
		if err == nil {
			index = l.Attrs().Index
		}
		return err
	})
	return index, err
}

func addVeth(here, there string, ns netns.NsHandle) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = here
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = there, netlink.NsFd(ns)
	return netlink.LinkAdd(veth)
}

// call is one call of the plugin; what is empty is not set.
type call struct {
	command, container, netns, ifName, args string
	stdin                                   string
	program                                 string // the test binary as the plugin
	as                                      string // "plugin"
}

// answer is what came of it.
type answer struct {
	status         int
	stdout, stderr string
	// Of an error:
	CNIVersion string
	Code       uint
	Msg        string
	Details    string
}

// call runs the plugin in the node's namespace; from any goroutine.
func (n *node) call(c call) (answer, error) {
	if c.program == "" {
		exe, err := os.Executable()
		if err != nil {
			return answer{}, err
		}
		c.program = exe
	}
	if c.as == "" {
		c.as = "plugin"
	}
	cmd := exec.Command(c.program)
	cmd.Env = []string{asPlugin + "=" + c.as, "CNI_PATH=/opt/cni/bin", "GORACE=atexit_sleep_ms=0"}
	for _, v := range [][2]string{
		{"CNI_COMMAND", c.command},
		{"CNI_CONTAINERID", c.container},
		{"CNI_NETNS", c.netns},
		{"CNI_IFNAME", c.ifName},
		{"CNI_ARGS", c.args},
	} {
		if v[1] != "" {
			cmd.Env = append(cmd.Env, v[0]+"="+v[1])
		}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.stdin), &stdout, &stderr
	err := inNamespace(n.ns, cmd.Run)
	exit := (*exec.ExitError)(nil)
	if err != nil && !errors.As(err, &exit) {
		return answer{}, err
	}
	a := answer{status: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	if a.status != 0 {
		if err := json.Unmarshal(stdout.Bytes(), &a); err != nil {
			return a, fmt.Errorf("status %d and no CNI error: %w: %q, stderr %q", a.status, err, a.stdout, a.stderr)
		}
	}
	return a, nil
}

func (n *node) mustCall(c call) answer {
	n.t.Helper()
	a, err := n.call(c)
	if err != nil {
		n.t.Fatal(err)
	}
	return a
}

// fakeAgent serves as an agent does: it refuses what a real one would.
type fakeAgent struct {
	socket string

	mu       sync.Mutex
	code     string // of the answer to everything; "": what is asked for decides
	silent   bool   // there is no answer
	stranger bool   // it is not an agent
	got      []request
}

// request is one that passed the checks.
type request struct {
	Path       string
	Attachment api.CNIAttachment
	Valid      []api.CNIAttachmentID
}

func newAgent(t testing.TB) *fakeAgent {
	t.Helper()
	dir, err := os.MkdirTemp("", "ovl") // t.TempDir's name may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	a := &fakeAgent{socket: filepath.Join(dir, "a.sock")}
	l, err := net.Listen("unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: a} //nolint:gosec // of a test
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return a
}

// set changes how it answers from now on.
func (a *fakeAgent) set(change func(*fakeAgent)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.code, a.silent, a.stranger = "", false, false
	change(a)
}

// taken is what was asked since the last time.
func (a *fakeAgent) taken() []request {
	a.mu.Lock()
	defer a.mu.Unlock()
	got := a.got
	a.got = nil
	return got
}

func (a *fakeAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	code, silent, stranger := a.code, a.silent, a.stranger
	a.mu.Unlock()
	// Read first: only then does the server notice that the caller has gone.
	req, err := decode(r)
	if silent {
		<-r.Context().Done()
		return
	}
	answer, status := any(api.CNIAnswer{APIVersion: api.Version, Kind: api.KindCNIAnswer, Version: "v1"}), http.StatusOK
	switch {
	case stranger:
		answer = map[string]string{"status": "ok"}
	case err != nil:
		answer, status = refusal(api.CodeInternal, "TEST: the request is wrong: "+err.Error())
	case code != "":
		answer, status = refusal(code, "says the\nagent")
	}
	if err == nil {
		a.mu.Lock()
		a.got = append(a.got, req)
		a.mu.Unlock()
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

func refusal(code, message string) (*api.Error, int) {
	status := map[string]int{
		api.CodeInvalid: 400, api.CodeForbidden: 403, api.CodeNotFound: 404, api.CodeNotAllowed: 405,
		api.CodeConflict: 409, api.CodeInternal: 500,
	}[code]
	if status == 0 {
		status = 503
	}
	return &api.Error{APIVersion: api.Version, Kind: api.KindError, Code: code, Message: message}, status
}

// decode checks what a real agent relies on.
func decode(r *http.Request) (request, error) {
	req := request{Path: r.URL.Path}
	want := http.MethodPost
	if r.URL.Path == api.PathCNIStatus {
		want = http.MethodGet
	}
	if r.Method != want {
		return req, fmt.Errorf("%s %s", r.Method, r.URL.Path)
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	switch r.URL.Path {
	case api.PathCNIStatus:
		return req, nil
	case api.PathCNIGC:
		var list api.CNIAttachmentList
		if err := d.Decode(&list); err != nil {
			return req, err
		}
		if list.Items == nil {
			return req, errors.New("no items")
		}
		req.Valid = list.Items
		return req, nil
	case api.PathCNIAdd, api.PathCNICheck, api.PathCNIDelete:
		if err := d.Decode(&req.Attachment); err != nil {
			return req, err
		}
		return req, wrong(req.Path, req.Attachment)
	}
	return req, errors.New("no such path")
}

func wrong(path string, a api.CNIAttachment) error {
	if a.ContainerID == "" || a.IfName == "" || a.TimeoutMillis <= 0 || a.TimeoutMillis > MaxTimeoutSeconds*1000 {
		return fmt.Errorf("attachment %+v", a)
	}
	if path == api.PathCNIDelete {
		return nil
	}
	if a.Netns == "" || a.Namespace == "" || a.Pod == "" || a.PeerIndex <= 0 || len(a.Addresses) == 0 {
		return fmt.Errorf("attachment %+v", a)
	}
	for _, text := range a.Addresses {
		if addr, err := netip.ParseAddr(text); err != nil || addr.String() != text {
			return fmt.Errorf("address %q", text)
		}
	}
	return nil
}

// builtPlugin is the program as it is shipped.
func builtPlugin(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), PluginType)
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, "../../cmd/overland-cni")
	build.Env = append(slices.Clone(os.Environ()), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return path
}
