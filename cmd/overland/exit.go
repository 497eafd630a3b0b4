package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	utilexec "k8s.io/client-go/util/exec"

	"github.com/overland-net/overland/pkg/admin/api"
)

// The exit statuses, stable for scripts.
const (
	exitOK      = 0
	exitError   = 1
	exitUsage   = 2 // the call is wrong: a flag, an argument, an expression
	exitPartial = 3 // what is printed is true, but may lack what is new in some cluster
	exitDenied  = 4 // of explain: the connection is denied
)

// exit is an error with its own exit status.
type exit struct {
	status int
	err    error // nil: all has been said
}

// Error is what is wrong, empty if all has been said.
func (e *exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

// Unwrap is what is wrong.
func (e *exit) Unwrap() error { return e.err }

// usageError is a wrong call.
func usageError(format string, args ...any) error {
	return &exit{exitUsage, fmt.Errorf(format, args...)}
}

// exitStatus is the status that an error ends the program with.
func exitStatus(err error) int {
	var own *exit
	var remote utilexec.CodeExitError
	var refused *api.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &own):
		return own.status
	case errors.As(err, &remote):
		return remote.Code
	case errors.As(err, &refused) && refused.Code == api.CodeInvalid:
		return exitUsage
	}
	return exitError
}

// message is what is said of an error; empty if all has been said.
func message(err error) string {
	var remote utilexec.CodeExitError
	var refused *api.Error
	switch {
	case errors.As(err, &remote):
		return "" // the command on the node has said it
	case errors.As(err, &refused) && refused.Code == api.CodeForbidden:
		return fmt.Sprintf("%s (%s)", refused.Message, strings.ToLower(http.StatusText(http.StatusForbidden)))
	}
	return err.Error()
}
