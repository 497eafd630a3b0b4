package identity

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/overland-net/overland/pkg/admin/api"
)

func TestIdentityCommandsReadTheRunningAgent(t *testing.T) {
	n, pods := deployed(t, canada())
	own, locals := deployed(t, west())
	untilTruth(t)
	lines := lab.Overland(t, "west/node-1", "endpoints", "-o", "calicoq")
	if lines.Code != 0 {
		t.Fatal(lines)
	}
	for _, want := range []string{
		fmt.Sprintf("Workload endpoint canada/%s/k8s/%s.%s/eth0", pods[0].Node, n.Name, pods[0].Name),
		fmt.Sprintf("Workload endpoint %s/k8s/%s.%s/eth0", locals[0].Node, own.Name, locals[0].Name),
		"Host endpoint canada/node-1/eth0",
		"Host endpoint node-2/eth0",
	} {
		if !strings.Contains("\n"+lines.Stdout, "\n"+want+"\n") {
			t.Errorf("no line %q in:\n%s", want, lines.Stdout)
		}
	}
	for _, tt := range []struct {
		args []string
		code int
		want string // a pattern in the output, standard error included
	}{
		{[]string{"status"}, 0, `(?s)west.*canada`},
		{[]string{"clusters"}, 0, `(?m)^canada +InSync`},
		{[]string{"endpoints", "--cluster", "canada", "-n", n.Name, "-l", "app=web"}, 0, pods[1].Name},
		{[]string{"endpoints", "--cluster", "canada", "-o", "wide"}, 0, regexp.QuoteMeta(pods[0].Address(6).String())},
		{[]string{"endpoints", "--kind", "Node"}, 0, `node-2`},
		{[]string{"endpoints", "--cluster", "nowhere"}, 1, `nowhere`},
		{[]string{"endpoints", "--kind", "Service"}, 2, `Pod.*Node`},
		{[]string{"eval", "app == 'web' && overland.dev/cluster == 'canada'"}, 0, pods[0].Name},
		{[]string{"eval", "app = 'web'"}, 2, `position 4`},
		{[]string{"endpoint", own.Name + "/" + locals[0].Name}, 0, regexp.QuoteMeta(locals[0].Address(4).String())},
		{[]string{"endpoint", own.Name + "/absent"}, 1, `absent`},
		{[]string{"no-such-command"}, 2, `no-such-command`},
		{[]string{"version"}, 0, `(?s)Client: .*Agent: `},
	} {
		out := lab.Overland(t, "west/node-1", tt.args...)
		if out.Code != tt.code || !regexp.MustCompile(tt.want).MatchString(out.Stdout+out.Stderr) {
			t.Errorf("overland %q: want status %d and %q, got %s", tt.args, tt.code, tt.want, out)
		}
	}
}

func TestIdentityCommandOutputInJSONIsTheWireType(t *testing.T) {
	out := lab.Overland(t, "west/node-1", "endpoints", "--cluster", "canada", "-o", "json")
	var list api.EndpointList
	if err := json.Unmarshal([]byte(out.Stdout), &list); err != nil || list.APIVersion != api.Version || len(list.Items) == 0 {
		t.Errorf("%v: %s", err, out)
	}
}

func TestIdentityCommandsWorkOffTheNode(t *testing.T) {
	out := lab.OverlandBeside(t, "west", "status", "--node", "node-2", "--context", "west")
	if out.Code != 0 || !strings.Contains(out.Stdout, "node-2") {
		t.Errorf("status through the API server: %s", out)
	}
	if out := lab.OverlandBeside(t, "west", "endpoints", "--node", "node-2", "--context", "west", "--cluster", "nowhere"); out.Code != 1 {
		t.Errorf("the exit status is not that of the command on the node: %s", out)
	}
}

func TestIdentityTheSocketIsForRootOnly(t *testing.T) {
	if mode := strings.TrimSpace(lab.MustNodeExec(t, "west/node-1", "stat", "-c", "%a %U", "/run/overland/admin.sock")); mode != "600 root" {
		t.Errorf("the admin socket is %s", mode)
	}
}
