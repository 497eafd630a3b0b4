package main

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// reference is what users look flags and fields up in.
func reference(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEveryFlagIsInTheReference(t *testing.T) {
	text := reference(t)
	newFlags(&Config{}).VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(text, "`--"+f.Name+"`") {
			t.Errorf("docs/reference.md does not mention --%s", f.Name)
		}
	})
}

func TestEveryFieldOfTheFileIsInTheReference(t *testing.T) {
	text := reference(t)
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if field.Anonymous {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !strings.Contains(text, "\n| `"+name+"` |") {
			t.Errorf("docs/reference.md has no row of %s", name)
		}
	}
}
