package policy

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overland-net/overland/pkg/model"
)

// golden compares with a file of testdata, or writes it if UPDATE_GOLDEN is set.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (UPDATE_GOLDEN=1 rewrites it; -want +got)\n%s", path, diff)
	}
}

// TestGoldenStates are States of representative policies, as texts: what they
// say, and the names of sets, which must be the same after an upgrade.
func TestGoldenStates(t *testing.T) {
	mesh := in(np("shop/mesh", "app=db"), on("TCP sql", from("app=cart")))
	mesh.PeerScope = "mesh"
	for name, policies := range map[string][]*model.Policy{
		"isolated.txt":  {in(np("shop/deny", "")), in(np("shop/same-namespace", ""), on("", from("")))},
		"federated.txt": {mesh, in(np("shop/canada", "app=db"), on("TCP 6379", from("app=cart; overland.dev/cluster=canada")), on("", from("overland.dev/kind=Node; zone=a")))},
		"ports.txt":     {in(np("shop/in", ""), on("TCP http; UDP 53-54; SCTP", from("app=web"))), out(np("shop/out", "app=cart"), on("TCP http; TCP 443"), on("UDP dns", spaces("")))},
		"blocks.txt":    {out(np("shop/out", "app=cart"), on("TCP 443", block("0.0.0.0/0", "10.0.0.0/8", "192.168.0.0/16"), block("10.9.0.0/16", "10.9.1.0/24"), block("::/0"), block("172.16.5.5/12")))},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, policies...)
			b.node.OwnNodeEgress = name == "blocks.txt"
			b.node.Exceptions = map[string][]netip.Prefix{"ops": {prefix("192.168.0.0/24")}}
			b.node.Interfaces = append(b.node.Interfaces, model.Interface{Name: "azvzzz", Index: 9, Addrs: addresses("10.1.0.99")})
			b.set.Node(b.node)
			golden(t, name, b.state().Text())
		})
	}
}
