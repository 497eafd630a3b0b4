package federation

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/model"
)

// Candidacy says whether an agent stands for election.
type Candidacy string

// The values of --federation-candidate (semantics 4.11).
const (
	// CandidateAuto: if its node is one of the five Ready ones whose uid has the
	// lowest hash.
	CandidateAuto   Candidacy = "auto"
	CandidateAlways Candidacy = "always"
	CandidateNever  Candidacy = "never"
)

// ParseCandidacy reads a value of --federation-candidate.
func ParseCandidacy(text string) (Candidacy, error) {
	switch c := Candidacy(text); c {
	case CandidateAuto, CandidateAlways, CandidateNever:
		return c, nil
	}
	return "", fmt.Errorf("federation candidate %q: one of auto, always, never is expected", text)
}

// maxCandidates is how many nodes stand for election (semantics 4.11): enough
// that some live through any ordinary failure, and few enough that their
// requests for the Lease, one in two seconds each, are no load in a large
// cluster.
const maxCandidates = 5

// NodeInfo is what an election needs to know of a node.
type NodeInfo struct {
	Name string
	UID  model.UID
}

// NodesOf is the nodes of the local cluster.
func NodesOf(s *agent.Snapshot) []NodeInfo {
	var nodes []NodeInfo
	for key := range s.View.Keys(s.Self.Cluster, model.KindNode) {
		if e, ok := s.View.Endpoint(key); ok {
			nodes = append(nodes, NodeInfo{Name: key.Name, UID: e.UID})
		}
	}
	return nodes
}

// ranked is the nodes in the order in which they are candidates: by the hash of
// their uid. All agents agree on it, and it spreads over zones and ages.
func ranked(nodes []NodeInfo) []NodeInfo {
	sorted := slices.Clone(nodes)
	slices.SortFunc(sorted, func(a, b NodeInfo) int {
		x, y := sha256.Sum256(a.UID[:]), sha256.Sum256(b.UID[:])
		if c := bytes.Compare(x[:], y[:]); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return sorted
}

// candidates are the first Ready nodes in the ranked order, at most five. Ready
// is asked of no more nodes than needed: in a large cluster nobody can afford to
// read all Node objects again and again. Its error ends the search.
func candidates(nodes []NodeInfo, ready func(name string) (bool, error)) ([]NodeInfo, error) {
	var found []NodeInfo
	for _, n := range ranked(nodes) {
		ok, err := ready(n.Name)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, n)
		}
		if len(found) == maxCandidates {
			break
		}
	}
	return found, nil
}

// stands is what an agent does about the next term, or about the one it is in.
// A leader that is no candidate any more goes on if nobody else is one.
func stands(node string, leading bool, among []NodeInfo) bool {
	if slices.ContainsFunc(among, func(n NodeInfo) bool { return n.Name == node }) {
		return true
	}
	return leading && len(among) == 0
}
