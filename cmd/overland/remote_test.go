package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"

	"github.com/overland-net/overland/pkg/agent"
)

// apiServer is as much of an API server as `--node` needs. A command that is
// executed in a pod is run here, against the agent behind socket.
type apiServer struct {
	t         *testing.T
	socket    string
	pods      []corev1.Pod
	webSocket bool // else SPDY only, as before Kubernetes 1.30
	// executed are the commands, each after POD/CONTAINER.
	executed []string
}

// start serves, and is the path of a kubeconfig for it.
func (a *apiServer) start() string {
	server := httptest.NewServer(a)
	a.t.Cleanup(server.Close)
	path := filepath.Join(a.t.TempDir(), "kubeconfig")
	config := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"one",
"clusters":[{"name":"c","cluster":{"server":%q}}],"users":[{"name":"u","user":{"token":"t"}}],
"contexts":[{"name":"one","context":{"cluster":"c","user":"u"}}]}`, server.URL)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const pods = "/api/v1/namespaces/overland-system/pods"
	name, exec := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, pods+"/"), "/exec")
	switch {
	case r.URL.Path == pods:
		a.list(w, r)
	case exec && r.Method == http.MethodGet && !a.webSocket:
		http.Error(w, "unable to upgrade", http.StatusBadRequest)
	case exec && r.Method == http.MethodGet:
		a.serveWebSocket(w, r, name)
	case exec:
		q := r.URL.Query()
		remotecommand.ServeExec(w, r, a, name, "", q.Get("container"), q["command"],
			&remotecommand.Options{Stdout: true, Stderr: true}, time.Minute, time.Minute, remotecommand.SupportedStreamingProtocols)
	default:
		http.NotFound(w, r)
	}
}

func (a *apiServer) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
	for _, p := range a.pods {
		if q.Get("fieldSelector") == "spec.nodeName="+p.Spec.NodeName && q.Get("labelSelector") == agentSelector {
			list.Items = append(list.Items, p)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(list); err != nil {
		a.t.Error(err)
	}
}

func (a *apiServer) serveWebSocket(w http.ResponseWriter, r *http.Request, pod string) {
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		remotecommand.StreamProtocolV5Name: {Binary: true, Channels: []wsstream.ChannelType{
			wsstream.IgnoreChannel, wsstream.WriteChannel, wsstream.WriteChannel, wsstream.WriteChannel,
		}},
	})
	_, channels, err := conn.Open(w, r)
	if err != nil {
		a.t.Error(err)
		return
	}
	defer func() { _ = conn.Close() }()
	q := r.URL.Query()
	status := metav1.Status{Status: metav1.StatusSuccess}
	if code := a.run(r.Context(), pod, q.Get("container"), q["command"], channels[1], channels[2]); code != 0 {
		status = metav1.Status{
			Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: fmt.Sprint(code)}}},
		}
	}
	if err := json.NewEncoder(channels[3]).Encode(status); err != nil {
		a.t.Error(err)
	}
}

// ExecInContainer is what SPDY ends in.
func (a *apiServer) ExecInContainer(ctx context.Context, pod, _, container string, command []string, _ io.Reader, out, err io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	if code := a.run(ctx, pod, container, command, out, err); code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("exit status %d", code), Code: code}
	}
	return nil
}

func (a *apiServer) run(ctx context.Context, pod, container string, command []string, out, err io.Writer) int {
	a.executed = append(a.executed, pod+"/"+container+": "+strings.Join(command, " "))
	args := slices.Insert(slices.Clone(command[1:]), 1, "--socket="+a.socket)
	return run(ctx, args, streams{in: strings.NewReader(""), out: out, err: err})
}

func agentPodOn(name, node string, change func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: agentNamespace},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "overland-agent"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue},
		}},
	}
	if change != nil {
		change(&p)
	}
	return p
}

func TestNodeIsAskedThroughTheAPIServer(t *testing.T) {
	tests := []struct {
		name      string
		webSocket bool
		snapshot  *agent.Snapshot
		args      []string
		status    int
		executed  string
	}{
		{
			"over WebSocket", true, healthy(),
			[]string{"endpoints", "-l", "app in (redis,cart)", "-o", "wide"},
			0,
			"a-1/overland-agent: /overland endpoints --output=wide --selector=app in (redis,cart) --",
		},
		{
			"over SPDY", false, healthy(),
			[]string{"eval", "app == 'redis' || !has(x)"},
			0,
			"a-1/overland-agent: /overland eval -- app == 'redis' || !has(x)",
		},
		{"exit status 3 over WebSocket", true, cut(), []string{"status"}, 3, "a-1/overland-agent: /overland status --"},
		{"exit status 3 over SPDY", false, cut(), []string{"clusters"}, 3, "a-1/overland-agent: /overland clusters --"},
		{"a wrong call is the node's to judge", true, healthy(), []string{"eval", "a="}, 2, "a-1/overland-agent: /overland eval -- a="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			socket := agentOf(t, tt.snapshot)
			server := &apiServer{t: t, socket: socket, webSocket: tt.webSocket, pods: []corev1.Pod{
				agentPodOn("a-0", "node-0", nil), agentPodOn("a-1", "node-1", nil),
			}}
			kubeconfig := server.start()
			wantOut, wantErr, _ := call(t, append(slices.Clone(tt.args), "--socket", socket)...)
			out, err, status := call(t, append(slices.Clone(tt.args), "--node", "node-1", "--kubeconfig", kubeconfig)...)
			if status != tt.status || out != wantOut || err != wantErr {
				t.Errorf("status %d, stdout %q, stderr %q,\nwant %d, %q, %q", status, out, err, tt.status, wantOut, wantErr)
			}
			if got := strings.Join(server.executed, "\n"); got != tt.executed {
				t.Errorf("executed %q, want %q", got, tt.executed)
			}
		})
	}
}

func TestNodeWithoutAgentIsAnError(t *testing.T) {
	pending := agentPodOn("a", "node-1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending })
	for name, tt := range map[string]struct {
		pods []corev1.Pod
		want string
	}{
		"no pod":      {nil, "overland: no agent's pod on node node-1 in namespace overland-system: is that a node of this cluster (kubectl get nodes), and is the DaemonSet scheduled to it?\n"},
		"pod pending": {[]corev1.Pod{pending}, "overland: the agent's pod of node node-1 is not running: see kubectl -n overland-system get pods -o wide\n"},
	} {
		t.Run(name, func(t *testing.T) {
			server := &apiServer{t: t, pods: tt.pods}
			out, err, status := call(t, "status", "--node", "node-1", "--kubeconfig", server.start())
			if status != exitError || err != tt.want || out != "" {
				t.Errorf("status %d, stdout %q, stderr %q", status, out, err)
			}
		})
	}
}

func TestPodThatStaysIsAsked(t *testing.T) {
	leaving := agentPodOn("leaving", "n", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: noon()} })
	unready := agentPodOn("unready", "n", func(p *corev1.Pod) { p.Status.Conditions = nil })
	failed := agentPodOn("failed", "n", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
	ready := agentPodOn("ready", "n", func(p *corev1.Pod) {
		p.Annotations = map[string]string{defaultContainer: "agent"}
	})
	for _, tt := range []struct {
		pods []corev1.Pod
		want string
	}{
		{[]corev1.Pod{failed, leaving, unready, ready}, "ready/agent"},
		{[]corev1.Pod{leaving, unready}, "unready/overland-agent"},
		{[]corev1.Pod{failed, leaving}, "leaving/overland-agent"},
	} {
		server := &apiServer{t: t, webSocket: true, socket: "/nowhere/a.sock", pods: tt.pods}
		_, err, status := call(t, "status", "--node", "n", "--kubeconfig", server.start())
		if status != exitError || !strings.Contains(err, "cannot reach the agent's socket /nowhere/a.sock") {
			t.Errorf("status %d, stderr %q", status, err)
		}
		if len(server.executed) != 1 || !strings.HasPrefix(server.executed[0], tt.want+": ") {
			t.Errorf("executed %q, want in %s", server.executed, tt.want)
		}
	}
}

func TestUnusableKubeconfigIsAnError(t *testing.T) {
	var out, err bytes.Buffer
	status := run(t.Context(), []string{"status", "--node", "n", "--kubeconfig", "/nowhere/kubeconfig"}, streams{out: &out, err: &err})
	if status != exitError || !strings.Contains(err.String(), "read the kubeconfig: ") {
		t.Errorf("status %d, stderr %q", status, &err)
	}
}
