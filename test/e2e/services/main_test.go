package services

import (
	"os"
	"testing"

	"github.com/overland-net/overland/test/lab/labtest"
)

// lab is up, with Overland in both clusters and the two linked, while the tests
// run. They disturb it, so none is parallel.
var lab *labtest.Lab

func TestMain(m *testing.M) { os.Exit(labtest.Main(m, "services", &lab, "--dual-stack")) }

func west() *labtest.Cluster   { return lab.Cluster("west") }
func canada() *labtest.Cluster { return lab.Cluster("canada") }
