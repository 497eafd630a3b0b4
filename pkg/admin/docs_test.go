package admin

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/overland-net/overland/pkg/agent"
)

// TestEveryMetricIsInTheReference: with all of its labels, in one row.
func TestEveryMetricIsInTheReference(t *testing.T) {
	text, err := os.ReadFile("../../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	// A Desc tells its name and labels in its text only.
	parts := regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		newCollector(nil, nil, nil, agent.Self{}, time.Now).Describe(descs)
		cni := newCNIMetrics(&fakeCNI{})
		cni.took.Describe(descs)
		cni.attachments.Describe(descs)
	}()
	count := 0
	for d := range descs {
		found := parts.FindStringSubmatch(d.String())
		if found == nil {
			t.Fatalf("%s: expected a name and labels", d)
		}
		count++
		_, row, there := strings.Cut(string(text), "\n| `"+found[1]+"` |")
		if !there {
			t.Errorf("docs/reference.md has no row of %s", found[1])
			continue
		}
		row, _, _ = strings.Cut(row, "\n")
		for label := range strings.FieldsFuncSeq(found[2], func(r rune) bool { return r == ',' || r == ' ' }) {
			if !strings.Contains(row, "`"+label+"`") {
				t.Errorf("docs/reference.md: the row of %s lacks label %s", found[1], label)
			}
		}
	}
	if count == 0 {
		t.Error("there are no metrics")
	}
}
