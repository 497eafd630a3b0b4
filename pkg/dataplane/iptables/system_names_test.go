package iptables

import (
	"context"
	"strings"
	"testing"

	"github.com/overland-net/overland/pkg/dataplane/nfnl/nfnltest"
)

// TestSetsOfOthersStayWhoeverTheyBelongTo: a name that only begins like ours is
// somebody else's.
func TestSetsOfOthersStayWhoeverTheyBelongTo(t *testing.T) {
	nfnltest.Isolate(t)
	s := open(t, SystemConfig{Backend: BackendNFT})
	for _, name := range []string{"ovl", "ovlan-blocked", "ovl4", "ovl5-a"} {
		nfnltest.Run(t, "", "ipset", "create", name, "hash:ip")
	}
	nfnltest.Run(t, "", "ipset", "create", "ovl4-left", "hash:ip")
	if err := New(Config{}, s, quiet()).Remove(context.Background()); err != nil {
		t.Fatal(err)
	}
	left := strings.Fields(nfnltest.Run(t, "", "ipset", "list", "-n"))
	if len(left) != 4 {
		t.Errorf("left: %q", left)
	}
}
