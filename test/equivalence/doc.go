// Package equivalence holds that policies mean the same everywhere: in random
// worlds, for random connections, the oracle of test/worlds, the Verdict of the
// state that the agent makes of the world, and the rules that are made of that
// state for the kernel agree. A disagreement is printed with a world that is as
// small as can be.
//
// It has tests only, which may import test/worlds and whatever they compare.
package equivalence
