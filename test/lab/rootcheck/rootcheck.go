// Package rootcheck tells whether the lab left the machine as it found it: it
// takes what the calling thread's network namespace and the machine consist of
// as text, and compares two such snapshots. What changes by itself (counters,
// dates, remaining lifetimes, a few sysctls) is left out.
//
// It only reads. In particular it never lists a firewall table by a command
// that would create the table by doing so, as `iptables -L` does.
//
// A kernel module that is loaded between two snapshots shows as sysctls that
// were added: that is a change of the machine, and is reported.
//
// It may import nothing of this repository.
package rootcheck

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Snapshot is what was found, by section. Take makes it; it is not changed
// afterwards and may be shared.
type Snapshot struct {
	sections []section
}

// section is one kind of facts, one fact a line, sorted: the order in which a
// kernel lists things means nothing, except where the line itself tells it
// (the number of a routing rule) or the order was numbered by the reader.
type section struct {
	name  string
	lines []string
}

// reader finds the facts of one section.
type reader struct {
	name string
	read func(context.Context) ([]string, error)
}

// Take reads the network namespace of the calling OS thread, and the machine's
// mounts and named network namespaces as that thread's mount namespace shows
// them. It needs root and the programs ip, iptables-legacy-save,
// ip6tables-legacy-save and nft.
func Take(ctx context.Context) (Snapshot, error) {
	return take(ctx, append(networkReaders(), machineReaders()...))
}

func take(ctx context.Context, readers []reader) (Snapshot, error) {
	var s Snapshot
	for _, r := range readers {
		lines, err := r.read(ctx)
		if err != nil {
			return Snapshot{}, fmt.Errorf("snapshot %s: %w", r.name, err)
		}
		slices.Sort(lines)
		s.sections = append(s.sections, section{name: r.name, lines: lines})
	}
	return s, nil
}

// String is all of the snapshot: each section's name, then its facts indented.
func (s Snapshot) String() string {
	var b strings.Builder
	for _, sec := range s.sections {
		fmt.Fprintf(&b, "%s:\n", sec.name)
		for _, line := range sec.lines {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	return b.String()
}

// Diff says what b has that a has not (+) and what a has that b has not (-),
// by section; it is empty when both tell the same.
func Diff(a, b Snapshot) string {
	var out strings.Builder
	for _, name := range sectionNames(a, b) {
		changes := diffLines(a.lines(name), b.lines(name))
		if len(changes) == 0 {
			continue
		}
		fmt.Fprintf(&out, "%s:\n", name)
		for _, change := range changes {
			fmt.Fprintf(&out, "  %s\n", change)
		}
	}
	return out.String()
}

func (s Snapshot) lines(name string) []string {
	for _, sec := range s.sections {
		if sec.name == name {
			return sec.lines
		}
	}
	return nil
}

func sectionNames(snapshots ...Snapshot) []string {
	var names []string
	for _, s := range snapshots {
		for _, sec := range s.sections {
			if !slices.Contains(names, sec.name) {
				names = append(names, sec.name)
			}
		}
	}
	return names
}

// diffLines merges two sorted lists; a line that occurs twice counts twice.
func diffLines(a, b []string) []string {
	var out []string
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0] < b[0]:
			out = append(out, "- "+a[0])
			a = a[1:]
		case len(a) == 0 || b[0] < a[0]:
			out = append(out, "+ "+b[0])
			b = b[1:]
		default:
			a, b = a[1:], b[1:]
		}
	}
	return out
}
