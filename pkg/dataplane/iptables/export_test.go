package iptables

import "github.com/overland-net/overland/pkg/desired"

// CompileAfter is for the tests of the other package of this folder, which has
// the States of dataplanetest.
func CompileAfter(old *Program, s *desired.State, cfg Config) *Program {
	return compileAfter(old, s, cfg)
}
