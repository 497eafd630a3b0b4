// Command overland-cni is the CNI plugin: a container runtime starts it for every
// pod, and it lets the pod start when the agent enforces its policies. All is in
// pkg/cni.
//
// Of this repository it may import pkg/cni.
package main

import (
	"os"

	"github.com/overland-net/overland/pkg/cni"
)

func main() { os.Exit(cni.Main()) }
