package services

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/overland-net/overland/test/lab/labtest"
)

// lab is up, with Overland in both clusters and the two linked, while the tests
// run. They disturb it, so none is parallel.
var lab *labtest.Lab

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	up, down, err := labtest.Up("--dual-stack")
	if err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
		return 1
	}
	lab = up
	code := 1
	if err := lab.InstallOverland(); err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
	} else {
		code = m.Run()
	}
	if err := down(code != 0); err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
		code = 1
	}
	return code
}

func west() *labtest.Cluster   { return lab.Cluster("west") }
func canada() *labtest.Cluster { return lab.Cluster("canada") }
