package plan

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/overland-net/overland/pkg/model"
)

// The defaults of semantics 4.7, and the values of the annotation that are no
// names of clusters.
const (
	defaultMinReady = 1
	defaultSettle   = 30 * time.Second

	preferAny   = "any"
	preferLocal = "local"

	maxPreferred = 256 // clusters in one preference
)

// preference is which clusters are to serve.
type preference struct {
	text     string // canonical: what is remembered as applied
	any      bool
	local    bool     // the local one alone, or all
	order    []string // else: names of clusters
	minReady int
	settle   time.Duration
}

// prefers reads the annotations of a Service. What is wrong in them is a problem
// and is as if it were not there.
func (p *planner) prefers() preference {
	annotations := p.service.Annotations
	pref, known := p.parsePreference(annotations[model.AnnotationPreference], true)
	if before := p.memory.preference; !known && before != "" {
		// A name misspelt must not empty the Service.
		if last, good := p.parsePreference(before, false); good {
			p.problem(model.AnnotationPreference + ": no cluster of those names is linked: " + strconv.Quote(before) + " still holds")
			pref = last
		}
	}
	pref.minReady, pref.settle = defaultMinReady, defaultSettle
	if text, ok := annotations[model.AnnotationMinReady]; ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			p.problem(model.AnnotationMinReady + ": " + shown(text) + " is no number from 1: 1 is used")
		} else {
			pref.minReady = n
		}
	}
	if text, ok := annotations[model.AnnotationSettle]; ok {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			p.problem(model.AnnotationSettle + ": " + shown(text) + " is no duration such as 30s: 30s is used")
		} else {
			pref.settle = d
		}
	}
	return pref
}

// parsePreference reads one, and tells whether it names a cluster that there is.
func (p *planner) parsePreference(text string, tell bool) (preference, bool) {
	problem := func(message string) {
		if tell {
			p.problem(model.AnnotationPreference + ": " + message)
		}
	}
	switch strings.TrimSpace(text) {
	case "", preferAny:
		return preference{text: preferAny, any: true}, true
	case preferLocal:
		return preference{text: preferLocal, local: true}, true
	}
	pref, known := preference{}, false
	for name := range strings.SplitSeq(text, ",") {
		name = strings.TrimSpace(name)
		if name == preferLocal {
			name = p.local
		}
		switch {
		case len(pref.order) >= maxPreferred:
			problem("too many names")
			pref.text = strings.Join(pref.order, ",")
			return pref, known
		case name == "" || name == preferAny:
			problem(shown(name) + " is no name of a cluster")
			continue
		case slices.Contains(pref.order, name):
			problem(shown(name) + " is listed twice")
			continue
		case p.part(name) == nil:
			problem("no cluster " + shown(name) + " is linked")
		default:
			known = true
		}
		pref.order = append(pref.order, name)
	}
	pref.text = strings.Join(pref.order, ",")
	return pref, known
}

// memory is what the objects remember of earlier plans.
type memory struct {
	applied    string // expression
	hasApplied bool   // also that of an empty one
	preference string
	sufficient map[string]time.Time
	// serving is the cluster that serves alone, or servingAll; empty: nothing yet.
	serving string
}

// servingAll is several clusters together: no name of a cluster.
const servingAll = "*"

const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// writeSufficient is the text of what is remembered of clusters.
func writeSufficient(since map[string]time.Time) string {
	parts := make([]string, 0, len(since))
	for _, name := range slices.Sorted(maps.Keys(since)) {
		parts = append(parts, name+"="+since[name].UTC().Format(timeFormat))
	}
	return strings.Join(parts, ",")
}

// readSufficient reads it back; what is not of the form is not remembered.
func readSufficient(text string) map[string]time.Time {
	since := map[string]time.Time{}
	for part := range strings.SplitSeq(text, ",") {
		name, at, _ := strings.Cut(part, "=")
		if t, err := time.Parse(timeFormat, at); err == nil && len(since) < maxPreferred {
			since[name] = t
		}
	}
	return since
}

// problem notes what is wrong with the Service.
func (p *planner) problem(text string) {
	if len(p.result.Report.Problems) < maxNamed {
		p.result.Report.Problems = append(p.result.Report.Problems, text)
	}
}
