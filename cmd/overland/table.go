package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/printers"
)

// flushRows is after how many rows a table is printed so far: a long list
// appears as it arrives, as kubectl's do.
const flushRows = 500

// none is what kubectl prints for nothing.
const none = "<none>"

// table prints rows in columns.
type table struct {
	out interface {
		io.Writer
		Flush() error
	}
	rows int
}

func newTable(out io.Writer, header ...string) (*table, error) {
	t := &table{out: printers.GetNewTabWriter(out)}
	return t, t.write(header)
}

// row prints one row. What another cluster has said cannot do more than fill
// its cell.
func (t *table) row(cells ...string) error {
	for i, c := range cells {
		if c == "" {
			c = none
		}
		cells[i] = printable(c)
	}
	if err := t.write(cells); err != nil {
		return err
	}
	if t.rows++; t.rows%flushRows == 0 {
		return t.out.Flush()
	}
	return nil
}

func (t *table) write(cells []string) error {
	_, err := io.WriteString(t.out, strings.Join(cells, "\t")+"\n")
	return err
}

func (t *table) end() error { return t.out.Flush() }

// printable replaces what a terminal would act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// age is a number of seconds for people; nil is never.
func age(seconds *int64) string {
	if seconds == nil {
		return "<never>"
	}
	return human(*seconds)
}

func human(seconds int64) string {
	return duration.HumanDuration(time.Duration(seconds) * time.Second)
}

// expiry is the time left of credentials.
func expiry(seconds *int64) string {
	switch {
	case seconds == nil:
		return "<never>"
	case *seconds <= 0:
		return "expired " + human(-*seconds) + " ago"
	}
	return human(*seconds)
}

// count is "1 thing" or "n things".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
