package cni

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/overland-net/overland/test/lab/labtest"
)

// inventory is what a node has of its pods: their interfaces, routes, addresses
// given out, network namespaces and attachments, and all that belongs to CNI.
func inventory(s *scene, ctx context.Context, node string) string {
	out := lab.NodeExec(s.t, node, "sh", "-c", `
		echo interfaces $(ip -o link | grep -c ': azv')
		echo routes $(ip route | grep -c 'dev azv') $(ip -6 route | grep -c '/128 dev azv\|^[^ /]* dev azv')
		echo addresses $(grep -o '"hostVeth"' /var/lib/azure-vnet/ipam.json | wc -l)
		echo spaces $(ls /run/netns | grep -c '^cni-')
		echo files $(ls -A /etc/cni/net.d /opt/cni/bin)`)
	metrics, err := lab.AgentMetrics(ctx, node)
	if err != nil {
		return err.Error()
	}
	attached := regexp.MustCompile(`(?m)^overland_cni_attachments \d+$`).FindString(metrics)
	return out.Stdout + attached
}

// nothingLeaked waits until the near node has again what it had when the scene was
// set: the pods of the test are gone.
func (s *scene) nothingLeaked() {
	s.t.Helper()
	if !strings.Contains(s.before, "files /etc/cni/net.d: 05-overland.conflist 10-azure.conflist /opt/cni/bin: azure-vnet overland-cni portmap\n") {
		s.t.Errorf("the files of CNI are not those that are expected:\n%s", s.before)
	}
	labtest.Until(s.t, fmt.Sprintf("the near node to have what it had before the test:\n%s\n", s.before), func(ctx context.Context) (string, bool) {
		now := inventory(s, ctx, near)
		return now, now == s.before
	})
}
