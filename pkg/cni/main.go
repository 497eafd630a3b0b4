package cni

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// maxStdin bounds what is read: a configuration and a result have some kilobytes,
// a GC's list some hundred for each thousand pods.
const maxStdin = 4 << 20

// versions are those of the protocol that are served; Azure's lists are of the first.
func versions() []string { return []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} }

// Main serves the CNI call that the environment and stdin describe, with the
// result or the error as JSON on stdout, and returns the process's exit status.
// It replaces os.Stdin, and is to be called once.
func Main() int {
	p := &plugin{stderr: os.Stderr}
	return run(p, p.commands(), os.Stdout)
}

// run serves a call with the commands given, of which an ADD leaves its result in p.
func run(p *plugin, commands skel.CNIFuncs, stdout io.Writer) (status int) {
	protocol := ""
	defer func() {
		if r := recover(); r != nil {
			c := newCrash(r)
			_, _ = fmt.Fprintf(p.stderr, "%s: panic: %v\n%s", PluginType, c.value, c.stack)
			status = printError(stdout, protocol, c.failure())
		}
	}()
	// The library reads all that comes, but nothing for these two.
	if command := os.Getenv("CNI_COMMAND"); command != "" && command != "VERSION" {
		data, err := readStdin(os.Stdin)
		if err != nil {
			return printError(stdout, protocol, err)
		}
		protocol = protocolOf(data)
		if err := replaceStdin(data); err != nil {
			return printError(stdout, protocol, err)
		}
	}
	failure := skel.PluginMainFuncsWithError(commands, version.PluginSupports(versions()...), "CNI plugin "+PluginType+" "+ownVersion())
	if failure != nil {
		return printError(stdout, protocol, failure)
	}
	// Only now: the library has checks of its own after the command, and two
	// values on stdout would be none.
	if _, err := stdout.Write(p.result); err != nil {
		return printError(stdout, protocol, types.NewError(types.ErrIOFailure, "print the result", err.Error()))
	}
	return 0
}

func readStdin(stdin io.Reader) ([]byte, *types.Error) {
	data, err := io.ReadAll(io.LimitReader(stdin, maxStdin+1))
	if err != nil {
		return nil, types.NewError(types.ErrIOFailure, "read the configuration from stdin", err.Error())
	}
	if len(data) > maxStdin {
		return nil, types.NewError(types.ErrIOFailure, fmt.Sprintf("the configuration on stdin is longer than %d bytes", maxStdin), "")
	}
	return data, nil
}

// replaceStdin lets the library read what has been read already.
func replaceStdin(data []byte) *types.Error {
	r, w, err := os.Pipe()
	if err != nil {
		return types.NewError(types.ErrIOFailure, "make a pipe", err.Error())
	}
	// A pipe holds less than a configuration may have. This ends when the library
	// has read all, or with the process.
	go func() {
		_, _ = w.Write(data)
		_ = w.Close()
	}()
	os.Stdin = r
	return nil
}

// protocolOf is the protocol's version that errors are to be told in; empty if
// that is not one of ours.
func protocolOf(data []byte) string {
	var conf struct {
		CNIVersion string `json:"cniVersion"`
	}
	if json.Unmarshal(data, &conf) != nil || !slices.Contains(versions(), conf.CNIVersion) {
		return ""
	}
	return conf.CNIVersion
}

// printError prints an error as CNI has it, which the library does but for the
// version, and returns the exit status that goes with it.
func printError(stdout io.Writer, protocol string, failure *types.Error) int {
	if protocol == "" {
		protocol = version.Current()
	}
	e := json.NewEncoder(stdout)
	e.SetEscapeHTML(false)
	_ = e.Encode(struct {
		CNIVersion string `json:"cniVersion"`
		*types.Error
	}{protocol, failure})
	return 1
}

// crash is a panic with where it was.
type crash struct {
	value any
	stack []byte
}

// newCrash is to be called where the panic is recovered; one that comes from
// another goroutine is kept as it is.
func newCrash(recovered any) *crash {
	if c, ok := recovered.(*crash); ok {
		return c
	}
	return &crash{recovered, debug.Stack()}
}

func (c *crash) failure() *types.Error {
	return types.NewError(types.ErrInternal, PluginType+" has a bug: please report it with what the runtime has logged of it",
		clipped(fmt.Sprint(c.value)))
}

// ownVersion is what the Go tools have noted in this program.
func ownVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

// maxText bounds what is said about one thing: some of it comes from outside.
const maxText = 1024

func clipped(s string) string {
	if len(s) > maxText {
		return strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

func quoted(s string) string { return strconv.Quote(clipped(s)) }

// oneLine is text without what would break a line or a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}
