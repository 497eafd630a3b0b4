// Package impure is imported by a pure one. It says nothing of its imports.
package impure

var count int

var table = map[string]int{}

func init() {
	count++
}

// Run counts.
func Run() { count += table[""] }
