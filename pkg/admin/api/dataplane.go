package api

import "time"

// Dataplane is how enforcement on a node is doing.
type Dataplane struct {
	Name    string `json:"name"`              // iptables or none
	Backend string `json:"backend,omitempty"` // legacy or nft; absent until the kernel could be opened
	// InForce: what is wanted is applied, and the kernel was found to hold it.
	InForce bool `json:"inForce"`
	// Wanted and Applied are generations of what is to be enforced; 0: none.
	Wanted  uint64 `json:"wantedGeneration"`
	Applied uint64 `json:"appliedGeneration"`
	// BehindSince is since when what is wanted is not in force; absent if it is.
	BehindSince   *time.Time `json:"behindSince,omitempty"`
	BehindSeconds *int64     `json:"behindSeconds,omitempty"`
	// AppliedAt is when the kernel was last made, or found, to hold what was
	// wanted.
	AppliedAt         *time.Time `json:"appliedAt,omitempty"`
	AppliedAgeSeconds *int64     `json:"appliedAgeSeconds,omitempty"`
	// Error is that of the last attempt; absent if it did not fail.
	Error           string     `json:"error,omitempty"`
	ErrorSince      *time.Time `json:"errorSince,omitempty"`
	ErrorAgeSeconds *int64     `json:"errorAgeSeconds,omitempty"`
	Failures        int        `json:"failures,omitempty"` // in a row
	// Repaired is what the last readback that found differences has mended.
	Repaired           []string   `json:"repaired,omitempty"`
	RepairedAt         *time.Time `json:"repairedAt,omitempty"`
	RepairedAgeSeconds *int64     `json:"repairedAgeSeconds,omitempty"`

	// What is applied: pods of this node, those of them that policies isolate,
	// pod interfaces without a known pod (and how many of these are
	// grandfathered), sets of addresses.
	Endpoints         int `json:"endpoints"`
	Isolated          int `json:"isolated"`
	UnknownInterfaces int `json:"unknownInterfaces"`
	Grandfathered     int `json:"grandfathered,omitempty"`
	Sets              int `json:"sets"`

	Totals DataplaneTotals `json:"totals"`
}

// DataplaneTotals are sums since the kernel was opened, but for what is the last
// or the longest. Durations are in seconds.
type DataplaneTotals struct {
	Applies             uint64  `json:"applies"`
	Failures            uint64  `json:"failures"`
	Transactions        uint64  `json:"transactions"`
	SetsCreated         uint64  `json:"setsCreated"`
	SetsRemoved         uint64  `json:"setsRemoved"`
	MembersAdded        uint64  `json:"membersAdded"`
	MembersDeleted      uint64  `json:"membersDeleted"`
	Sweeps              uint64  `json:"sweeps"`
	FlowsReset          uint64  `json:"flowsReset"`
	FlowsDeleted        uint64  `json:"flowsDeleted"`
	Raises              uint64  `json:"raises"`
	Repairs             uint64  `json:"repairs"`
	SweepSeconds        float64 `json:"sweepSeconds"` // of all sweeps together
	LastSweepSeconds    float64 `json:"lastSweepSeconds"`
	LongestSweepSeconds float64 `json:"longestSweepSeconds"`
	LastApplySeconds    float64 `json:"lastApplySeconds"`
	LongestApplySeconds float64 `json:"longestApplySeconds"`
}
