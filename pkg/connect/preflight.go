package connect

import (
	"fmt"
	"slices"
	"strings"
)

// The checks, by the names that --skip-preflight takes.
const (
	CheckNames       = "names"
	CheckInstalled   = "installed"
	CheckVersion     = "version"
	CheckReachable   = "reachable"
	CheckRanges      = "ranges"
	CheckMasquerade  = "masquerade"
	CheckNetworkMode = "network-mode"
)

// Checks are the names of all checks, in the order in which they are made.
func Checks() []string {
	return []string{CheckNames, CheckInstalled, CheckVersion, CheckReachable, CheckRanges, CheckMasquerade, CheckNetworkMode}
}

// Level is what came of a check.
type Level int

// The levels. A check that could not be made does not stop anything.
const (
	Passed Level = iota
	NotChecked
	Warning
	Failed
)

// String is the word in front of a check's line.
func (l Level) String() string {
	switch l {
	case Passed:
		return "ok"
	case NotChecked:
		return "not checked"
	case Warning:
		return "warning"
	}
	return "FAILED"
}

// Result is a line of the preflight.
type Result struct {
	Check   string
	Level   Level
	Message string
	Advice  string // the one thing to do about it
}

// String is the line.
func (r Result) String() string {
	line := fmt.Sprintf("%-11s  %-12s  %s", r.Level, r.Check, r.Message)
	if r.Advice != "" {
		line += ". " + r.Advice
	}
	return line
}

// Side is a cluster that is to be linked, as far as the checks are concerned.
type Side struct {
	Facts
	Name   string // under which it is linked
	Ranges Ranges
	// Probes are what its own nodes found of the other's API server; nil for
	// one that does not learn the other.
	Probes *Probes
	// Learns: it is to know the other's pods and nodes.
	Learns bool
}

// Preflight makes all checks. It is a pure function of what was gathered.
// A check named in skip cannot fail.
func Preflight(a, b Side, skip []string) []Result {
	var all []Result
	for _, check := range []func(a, b Side) []Result{
		checkNames, checkInstalled, checkVersions, checkReachable, checkRanges, checkMasquerade, checkNetworkModes,
	} {
		all = append(all, check(a, b)...)
	}
	for i, r := range all {
		if r.Level == Failed && slices.Contains(skip, r.Check) {
			all[i].Level = Warning
			all[i].Message += " (goes on all the same, as --skip-preflight says)"
		}
	}
	return all
}

// failed tells whether any check did.
func failed(results []Result) bool {
	return slices.ContainsFunc(results, func(r Result) bool { return r.Level == Failed })
}

func checkNames(a, b Side) []Result {
	var all []Result
	bad := func(advice, format string, args ...any) {
		all = append(all, Result{CheckNames, Failed, fmt.Sprintf(format, args...), advice})
	}
	for _, s := range []Side{a, b} {
		if why := invalidName(s.Name); why != "" {
			bad("Set clusterName in "+fromConfig+", or give --name-a or --name-b", "context %s: the name of the cluster is %q: %s", s.Context, s.Name, why)
		}
	}
	if a.Name == b.Name {
		bad("Give one of them another name (clusterName in "+fromConfig+")", "both clusters are called %s", a.Name)
	}
	if a.UID == b.UID {
		bad("Name contexts of two clusters", "contexts %s and %s lead to the same cluster", a.Context, b.Context)
	}
	for _, pair := range [][2]Side{{a, b}, {b, a}} {
		learner, other := pair[0], pair[1]
		if !learner.Learns {
			continue
		}
		for _, l := range learner.Links {
			if l.ClusterUID != "" && l.ClusterUID == other.UID && l.Name != other.Name {
				bad("Unlink it first: overland disconnect, or kubectl delete remotecluster "+l.Name, "%s has %s linked already, as %s", learner.Name, other.Name, l.Name)
			}
		}
	}
	if len(all) > 0 {
		return all
	}
	all = append(all, Result{Check: CheckNames, Message: fmt.Sprintf("%s and %s", a.Name, b.Name)})
	for _, s := range []Side{a, b} {
		if s.Facts.Name != "" && s.Facts.Name != s.Name {
			all = append(all, Result{
				CheckNames, Warning, fmt.Sprintf("%s calls itself %s (%s): policies that name it mean different things in the two clusters", s.Name, s.Facts.Name, s.NameFrom),
				"Link it under its own name",
			})
		}
	}
	return all
}

func checkInstalled(a, b Side) []Result {
	var all []Result
	for _, s := range []Side{a, b} {
		if !s.Learns {
			continue // what only lends its API server needs nothing of ours
		}
		if !s.HasCRD || !s.HasNamespace || len(s.Agents) == 0 {
			var missing []string
			for what, there := range map[string]bool{
				"the RemoteCluster CRD": s.HasCRD, "namespace " + Namespace: s.HasNamespace, "agents' pods": len(s.Agents) > 0,
			} {
				if !there {
					missing = append(missing, what)
				}
			}
			slices.Sort(missing)
			all = append(all, Result{
				CheckInstalled, Failed, fmt.Sprintf("%s lacks %s", s.Name, strings.Join(missing, ", ")),
				"Install Overland there: kubectl apply -k manifests/…",
			})
			continue
		}
		ready := 0
		for _, p := range s.Agents {
			if p.Ready {
				ready++
			}
		}
		r := Result{Check: CheckInstalled, Message: fmt.Sprintf("%s: %d of %d agents ready on %d nodes", s.Name, ready, len(s.Agents), len(s.Nodes))}
		if ready < len(s.Agents) || len(s.Agents) < len(s.Nodes) {
			r.Level, r.Advice = Warning, "Look at the pods of namespace "+Namespace+": nodes without a ready agent do not learn the link"
		}
		all = append(all, r)
	}
	return all
}

func checkReachable(a, b Side) []Result {
	var all []Result
	for _, pair := range [][2]Side{{a, b}, {b, a}} {
		learner, other := pair[0], pair[1]
		if !learner.Learns || learner.Probes == nil {
			continue
		}
		all = append(all, reachability(learner.Name, other.Name, *learner.Probes)...)
	}
	return all
}

func reachability(learner, other string, p Probes) []Result {
	var lost []Reached
	for _, r := range p.Results {
		if !r.OK {
			lost = append(lost, r)
		}
	}
	subject := fmt.Sprintf("the API server of %s (%s)", other, p.URL)
	switch {
	case len(p.Results) == 0:
		return []Result{{
			CheckReachable, NotChecked, fmt.Sprintf("%s from the nodes of %s: %s", subject, learner, p.NotMade),
			"It shows in the RemoteCluster's condition Ready",
		}}
	case len(lost) > 0:
		return []Result{{
			CheckReachable, Failed, fmt.Sprintf("%d of %d nodes of %s do not reach %s: %s: %s", len(lost), len(p.Results), learner, subject, lost[0].Node, lost[0].Error),
			"Open the way from those nodes, or give the address or CA that is right for them: --server-a, --ca-a, --server-b, --ca-b",
		}}
	}
	return []Result{{Check: CheckReachable, Message: fmt.Sprintf("%d nodes of %s reach %s", len(p.Results), learner, subject)}}
}

func checkVersions(a, b Side) []Result {
	var all []Result
	for _, s := range []Side{a, b} {
		oldest, role := 30, "runs the agents"
		if !s.Learns {
			oldest, role = 25, "is linked"
		}
		major, minor, ok := kubernetesVersion(s.Version)
		switch {
		case !ok:
			all = append(all, Result{CheckVersion, NotChecked, fmt.Sprintf("%s says that it runs Kubernetes %q", s.Name, s.Version), ""})
		case major < 1 || major == 1 && minor < oldest:
			all = append(all, Result{
				CheckVersion, Failed, fmt.Sprintf("%s runs Kubernetes %s; a cluster that %s needs 1.%d or later", s.Name, s.Version, role, oldest),
				"Upgrade it",
			})
		default:
			all = append(all, Result{Check: CheckVersion, Message: fmt.Sprintf("%s runs Kubernetes %s", s.Name, s.Version)})
		}
	}
	return all
}

// kubernetesVersion reads v1.33.2 and the like.
func kubernetesVersion(text string) (major, minor int, ok bool) {
	n, err := fmt.Sscanf(strings.TrimPrefix(text, "v"), "%d.%d", &major, &minor)
	return major, minor, err == nil && n == 2
}
