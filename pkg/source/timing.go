package source

import "time"

// Timing is how long a source waits for what. The zero value of a field stands
// for its default.
type Timing struct {
	// ProbeAfter is how long nothing is heard of an API server until it is asked
	// for its version; ProbeTimeout is how long that may take. Two failures in a
	// row end a session: a cut connection is noticed within 1.1
	// ProbeAfter + 2 ProbeTimeout, about 19 s. Defaults: 8 s and 5 s.
	ProbeAfter, ProbeTimeout time.Duration
	// PageTimeout is how long one page of a list, or the next object of a
	// streamed one, may take. Default: 45 s.
	PageTimeout time.Duration
	// RetryFirst and RetryMax bound the pause before a new attempt; half of it to
	// all of it is waited, at random. Defaults: 500 ms and 12 s, so that a healed
	// connection is noticed within 20 s.
	RetryFirst, RetryMax time.Duration
	// RetryTooLarge is the pause after a list that was given up at the limit.
	// Default: 5 min.
	RetryTooLarge time.Duration
	// ReportContact is how often LastContact is reported if nothing else changes.
	// Default: 5 s.
	ReportContact time.Duration
}

func (t Timing) withDefaults() Timing {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.ProbeAfter, 8 * time.Second},
		{&t.ProbeTimeout, 5 * time.Second},
		{&t.PageTimeout, 45 * time.Second},
		{&t.RetryFirst, 500 * time.Millisecond},
		{&t.RetryMax, 12 * time.Second},
		{&t.RetryTooLarge, 5 * time.Minute},
		{&t.ReportContact, 5 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return t
}
