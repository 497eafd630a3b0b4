package policy

import (
	"strings"
	"testing"
)

// long makes a name as long as the API lets it be.
func long(word string) string {
	return strings.Repeat("very-long.", 30)[:253-1-len(word)] + "x" + word
}

func TestPolicyLetsPassWhatItSaysAndNothingElse(t *testing.T) {
	s := onStage(t)
	for _, tt := range allCases() {
		t.Run(tt.name, func(t *testing.T) {
			s := s.with(t)
			s.apply(west(), tt.policies)
			s.holds(tt.probes)
		})
	}
	s.holds(`
		pass a/client a/server tcp/80 udp/80 sctp/80 icmp
		pass outside a/server tcp/80
		pass canada:a/client a/server tcp/80
		pass a/client b/client tcp/80`)
}
