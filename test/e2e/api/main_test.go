package api

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/overland-net/overland/pkg/api/client"
)

// api is up while the tests run, with the CRD and the namespace of base.
var api *server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	s, err := startServer()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e/api:", err)
		return 1
	}
	api = s
	code := 1
	if err := install(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e/api:", err)
	} else {
		code = m.Run()
	}
	if err := s.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e/api:", err)
		code = 1
	}
	return code
}

// install applies the manifests as a user does, with a name for the cluster.
func install() error {
	ctx := context.Background()
	for _, dir := range []string{"namespace", "base", "remote"} {
		out := api.kubectl(ctx, "", "apply", "--server-side", "-k", manifests(dir))
		if out.err != nil {
			return fmt.Errorf("apply manifests/%s: %s", dir, out)
		}
	}
	out := api.kubectl(ctx, "", "wait", "--for=condition=Established", "--timeout=60s", "crd/remoteclusters.overland.dev")
	if out.err != nil {
		return fmt.Errorf("wait for the CRD: %s", out)
	}
	return nil
}

func manifests(dir string) string { return filepath.Join(repository, "manifests", dir) }

// kubectl has to succeed; it gives the output.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out := api.kubectl(t.Context(), "", args...)
	if out.err != nil {
		t.Fatalf("kubectl %s: %s", strings.Join(args, " "), out)
	}
	return out.out
}

func remoteClusters(t *testing.T) client.RemoteClusters {
	t.Helper()
	c, err := client.New(api.config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
