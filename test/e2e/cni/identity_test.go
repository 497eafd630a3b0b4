package cni

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/labtest"
)

// TestCNIPeersKnowAPodBeforeItsFirstPacket: which they admit by its labels, while
// only the node knows its address. A first segment that is dropped is sent again.
// The lab's runtime is slow enough that an API server may be heard before: the
// test without one is the stricter.
func TestCNIPeersKnowAPodBeforeItsFirstPacket(t *testing.T) {
	const pods = 20
	s := onScene(t)
	s.shooters("friend", "friend", "Never", pods)
	s.reached(s.shots("friend", pods))
}

// successionText is a StatefulSet whose one pod is made anew under the same name, and
// with the same name of its interface.
const successionText = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 1
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db, wave: db, is: IS}}
    spec:
`

// TestCNIASuccessorOfTheSameNameIsJudgedByItsOwnLabels: from its first packet on,
// once more restricted than its predecessor and once less.
func TestCNIASuccessorOfTheSameNameIsJudgedByItsOwnLabels(t *testing.T) {
	s := onScene(t)
	s.spray()
	set := func(is string) shot {
		_, spec, _ := strings.Cut(s.shooter("db", "db", is, "Always"), "\nspec:\n")
		spec = strings.TrimSuffix(spec, "---\n")
		text := strings.Replace(successionText, "IS", is, 1)
		for line := range strings.Lines(spec) {
			text += "    " + line
		}
		before := ""
		if p, err := s.n.Client.CoreV1().Pods(s.n.Name).Get(t.Context(), "db-0", metav1.GetOptions{}); err == nil {
			before = string(p.UID)
		}
		s.n.Apply(text)
		labtest.Until(t, "the next db-0", func(ctx context.Context) (string, bool) {
			p, err := s.n.Client.CoreV1().Pods(s.n.Name).Get(ctx, "db-0", metav1.GetOptions{})
			if err != nil {
				return err.Error(), false
			}
			return fmt.Sprint(p.UID), string(p.UID) != before && p.Labels["is"] == is
		})
		return s.shots("db", 1)[0]
	}
	if open := set("open"); open.status != "0 0 0 0" {
		t.Fatalf("the first, which nothing restricts: %+v", open)
	}
	before := s.arrived()
	s.silent([]shot{set("shut")}, before)
	s.reached([]shot{set("friend")})
	before = s.arrived()
	s.silent([]shot{set("shut")}, before)
}
