// Package shell imports what its row does not list. It may import core.
package shell

import (
	"os"

	"example.com/allowed/library/part"
	"example.com/allowed/libraryother"
	"example.com/bad/core"
	"example.com/bad/impure"
)
