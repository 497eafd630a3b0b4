package api

import "time"

// ServiceList lists the federated Services by namespace and name. Items come last.
type ServiceList struct {
	Header
	Origin ServiceOrigin `json:"origin"`
	Items  []Service     `json:"items"`
}

// ServiceDetails is one federated Service.
type ServiceDetails struct {
	Header
	Origin  ServiceOrigin `json:"origin"`
	Service Service       `json:"service"`
}

// ServiceOrigin is where an answer about federated Services comes from: only the
// leading agent plans them.
type ServiceOrigin struct {
	// Leader is the agent that has planned them; empty: none is known.
	Leader string `json:"leader,omitempty"`
	// Own: the agent that answers leads, and answers from memory. Else it has read
	// what the leader published.
	Own bool `json:"own"`
	// Written is when the leader said so: it does at every change, within ten
	// seconds, and every five minutes.
	Written           *time.Time `json:"written,omitempty"`
	WrittenAgeSeconds *int64     `json:"writtenAgeSeconds,omitempty"`
	// LeftOut counts federated Services for which there was no room.
	LeftOut int `json:"leftOut,omitempty"`
	// Problem is why the answer may be old or lack something; empty: it does not.
	Problem string `json:"problem,omitempty"`
}

// Service is a federated Service.
type Service struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
	// Expression is what is evaluated, in its canonical form; empty if nothing is.
	Expression string `json:"expression"`
	// Federated is the condition overland.dev/Federated that it is to have.
	Federated ServiceCondition `json:"federated"`
	// Problems are what is wrong with its annotations, and what could not be
	// written.
	Problems []string `json:"problems,omitempty"`
	// Foreign are objects of somebody else in its place.
	Foreign []ForeignObject `json:"foreign,omitempty"`
	// Ready and Published count its endpoints, of all clusters.
	Ready     int `json:"ready"`
	Published int `json:"published"`
	// Clusters are the local one first, then the others by name.
	Clusters []ServiceCluster `json:"clusters"`
}

// ServiceCondition is a condition of a Service.
type ServiceCondition struct {
	Status  string `json:"status"` // True or False
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
}

// ForeignObject is an object of somebody else where one of a federated Service's
// should be.
type ForeignObject struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Command string `json:"command"` // that removes it
}

// ServiceCluster is a cluster's part in a federated Service.
type ServiceCluster struct {
	Name string `json:"name"`
	// State is one of Serving, PreferredElsewhere, Unlisted, Spare and Withdrawn.
	State string `json:"state"`
	// Stale tells that it is out of contact for so long that its endpoints are
	// spare; Partial that the leader has not listed it.
	Stale   bool `json:"stale,omitempty"`
	Partial bool `json:"partial,omitempty"`
	// Backing are the names of its backing services, as many as there is room for; BackingCount counts them all.
	Backing      []string `json:"backing,omitempty"`
	BackingCount int      `json:"backingCount"`
	// Taken counts its endpoints that are fit to be published, Ready those of them
	// that are ready, Published those that are published.
	Taken     int `json:"taken"`
	Ready     int `json:"ready"`
	Published int `json:"published"`
	// Refused are addresses that are not taken or not published, by reason.
	Refused []RefusedAddresses `json:"refused,omitempty"`
}

// RefusedAddresses are addresses that are not taken for a reason.
type RefusedAddresses struct {
	Reason   string   `json:"reason"`
	Count    int      `json:"count"`
	Examples []string `json:"examples,omitempty"`
}
