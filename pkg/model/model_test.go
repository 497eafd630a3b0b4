package model

import (
	"maps"
	"strings"
	"testing"
)

func TestLabelsKeepWhatTheyWereGiven(t *testing.T) {
	long := strings.Repeat("v", 300)
	for name, m := range map[string]map[string]string{
		"none":         nil,
		"one":          {"app": "redis"},
		"empty value":  {"app": "", "tier": "db"},
		"empty key":    {"": "x"},
		"long":         {"a": long, long: "b"},
		"any bytes":    {"\x00": "\xff", "a\x01": "\x7f\x80"},
		"many":         {"a": "1", "b": "2", "c": "3", "aa": "4", "ab": "5"},
		"prefix pairs": {"ab": "c", "a": "bc"},
	} {
		t.Run(name, func(t *testing.T) {
			l := NewLabels(m)
			if got := l.Map(); !maps.Equal(got, m) {
				t.Errorf("Map() = %q, want %q", got, m)
			}
			if l.Len() != len(m) {
				t.Errorf("Len() = %d, want %d", l.Len(), len(m))
			}
			for k, v := range m {
				if got, ok := l.Get(k); !ok || got != v {
					t.Errorf("Get(%q) = %q, %v", k, got, ok)
				}
			}
			if _, ok := l.Get("absent"); ok {
				t.Error("a label that is not there was found")
			}
			decoded, err := DecodeLabels(l.Encoded())
			if err != nil || decoded != l {
				t.Errorf("decoded to %v, %v", decoded, err)
			}
		})
	}
}

func TestEqualLabelsAreEqual(t *testing.T) {
	a, b := NewLabels(map[string]string{"a": "1", "b": "2"}), NewLabels(map[string]string{"b": "2", "a": "1"})
	if a != b {
		t.Error("two sets of the same labels differ")
	}
	if NewLabels(map[string]string{}) != (Labels{}) {
		t.Error("the empty set is not the zero value")
	}
	if a.String() != "a=1,b=2" {
		t.Errorf("String() = %q", a)
	}
}

func FuzzDecodeLabelsTakesOnlyWhatEncodedGives(f *testing.F) {
	for _, m := range []map[string]string{nil, {"a": "b"}, {"a": "", "b": "c"}, {"k": strings.Repeat("x", 200)}} {
		f.Add(NewLabels(m).Encoded())
	}
	f.Add("\x01a\x01b\x01a\x01c")
	f.Add("\x81\x00a\x01b")
	f.Add("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := DecodeLabels(text)
		if err != nil {
			return
		}
		if again := NewLabels(l.Map()); again != l || again.Encoded() != text {
			t.Errorf("%q decodes to %q, which is encoded as %q", text, l.Map(), again.Encoded())
		}
	})
}

func TestReservedLabels_1_4(t *testing.T) {
	for key, want := range map[string]bool{
		"overland.dev/cluster":                       true,
		"overland.dev/anything":                      true,
		"cluster.overland.dev/region":                true,
		"a.b.overland.dev/x":                         true,
		"federation.tigera.io/remoteClusterName":     true,
		"federation.www.tigera.io/remoteClusterName": true,
		"federation.tigera.io/other":                 false,
		"notoverland.dev/cluster":                    false,
		"overland.dev":                               false,
		"overland.dev.example.com/cluster":           false,
		"app":                                        false,
	} {
		if got := ReservedLabel(key); got != want {
			t.Errorf("ReservedLabel(%q) = %v", key, got)
		}
	}
}

func TestUIDs(t *testing.T) {
	const text = "0b5f9e1c-27a4-4d3e-9c55-0123456789ab"
	if got := ParseUID(text).String(); got != text {
		t.Errorf("%q became %q", text, got)
	}
	if ParseUID("").String() != "" || ParseUID("") != (UID{}) {
		t.Error("no uid is not the zero value")
	}
	odd := []string{"x", "X", text[:35], text + "0", strings.Replace(text, "-", "_", 1), "zb5f9e1c-27a4-4d3e-9c55-0123456789ab"}
	seen := map[UID]string{}
	for _, s := range odd {
		u := ParseUID(s)
		if other, there := seen[u]; there || u == (UID{}) {
			t.Errorf("%q and %q are one uid", s, other)
		}
		seen[u] = s
	}
}

func TestKeysOfFacts(t *testing.T) {
	for _, f := range []Fact{
		&Endpoint{Key: PodKey("west", "redis", "a")},
		&Endpoint{Key: NodeKey("west", "node-1")},
		&Namespace{Key: NamespaceKey("west", "redis")},
		&Policy{Key: PolicyKey("west", "redis", "deny")},
		&Cluster{Name: "west"},
	} {
		if c := Set(f); c.Key != f.FactKey() || c.Value != f || c.Key.Cluster != "west" {
			t.Errorf("Set(%v) = %v", f.FactKey(), c)
		}
	}
	if s := PodKey("west", "redis", "a").String(); s != "Pod west/redis/a" {
		t.Errorf("a pod's key reads %q", s)
	}
	if s := ClusterKey("west").String(); s != "Cluster west" {
		t.Errorf("a cluster's key reads %q", s)
	}
}
