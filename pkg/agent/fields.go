package agent

// The fields of log lines.
const (
	fieldCluster   = "cluster"
	fieldState     = "state"
	fieldBefore    = "before"
	fieldReason    = "reason"
	fieldEndpoints = "endpoints"
	fieldContact   = "lastContact"
	fieldAge       = "age"
)
