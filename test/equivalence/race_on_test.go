//go:build race

package equivalence

// slowdown is how much fewer worlds there are with the race detector.
const slowdown = 50
