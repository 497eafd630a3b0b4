//go:build !linux

package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "lab: needs Linux: the lab is made of its namespaces, and this is %s\n", runtime.GOOS)
	os.Exit(1)
}
