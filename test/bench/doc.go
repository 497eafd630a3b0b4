// Package bench measures what the documentation claims. Each figure comes with
// a baseline of the same run, since machines differ; `make bench` prints them.
// It may import nothing of this repository but in its tests.
package bench
