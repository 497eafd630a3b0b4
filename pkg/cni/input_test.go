package cni

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/overland-net/overland/pkg/admin/api"
)

func TestConfDefaultsAreThoseOfAbsentKeys(t *testing.T) {
	tests := []struct {
		name, text string
		want       Conf
	}{
		{"nothing", `{}`, Conf{"", api.DefaultSocket, 10, []string{"kube-system", "overland-system"}}},
		{"null", `{"failOpenNamespaces":null}`, Conf{"", api.DefaultSocket, 10, []string{"kube-system", "overland-system"}}},
		{"none", `{"failOpenNamespaces":[]}`, Conf{"", api.DefaultSocket, 10, []string{}}},
		{"all", `{"type":"overland-cni","socket":"/s","timeoutSeconds":100,"failOpenNamespaces":["a"],"newer":1}`, Conf{"overland-cni", "/s", 100, []string{"a"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in, err := parseInput([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, in.Conf); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The installer writes what the plugin reads.
func TestConfIsWrittenAsItIsRead(t *testing.T) {
	for _, tt := range []struct {
		conf Conf
		want string
	}{
		{Conf{Type: PluginType}, `{"type":"overland-cni"}`},
		{Conf{PluginType, "/s", 5, []string{}}, `{"type":"overland-cni","socket":"/s","timeoutSeconds":5,"failOpenNamespaces":[]}`},
	} {
		if got, err := json.Marshal(tt.conf); err != nil || string(got) != tt.want {
			t.Errorf("%s, %v, want %s", got, err, tt.want)
		}
	}
}

func TestAddressesAreThoseOfTheInterface(t *testing.T) {
	tests := []struct {
		name, result string
		want         []string
		code         uint
	}{
		{"no interface named", `{"ips":[{"address":"10.0.0.1/16"},{"address":"fd00::1/64"}]}`, []string{"10.0.0.1", "fd00::1"}, 0},
		{"of ours only", `{"interfaces":[{"name":"azv1"},{"name":"eth0"}],"ips":[{"interface":0,"address":"10.0.0.2/16"},{"interface":1,"address":"10.0.0.1/16"}]}`, []string{"10.0.0.1"}, 0},
		{"IPv4 in IPv6", `{"ips":[{"address":"::ffff:10.0.0.1/120"}]}`, []string{"10.0.0.1"}, 0},
		{"of others only", `{"interfaces":[{"name":"azv1"}],"ips":[{"interface":0,"address":"10.0.0.2/16"}]}`, nil, 7},
		{"interface out of range", `{"interfaces":[],"ips":[{"interface":0,"address":"10.0.0.2/16"}]}`, nil, 7},
		{"interface below zero", `{"interfaces":[{"name":"eth0"}],"ips":[{"interface":-1,"address":"10.0.0.2/16"}]}`, nil, 7},
		{"without length", `{"ips":[{"address":"10.0.0.1"}]}`, nil, 7},
		{"with zone", `{"ips":[{"address":"fe80::1%eth0/64"}]}`, nil, 7},
		{"a number", `{"ips":[{"address":1}]}`, nil, 6},
		{"none", `{"ips":[]}`, nil, 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := input{PrevResult: json.RawMessage(tt.result)}
			got, err := in.addresses("eth0")
			if code := codeOf(t, err); code != tt.code {
				t.Fatalf("error %v, want code %d", err, tt.code)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// codeOf is an error's code, 0 for none. All errors of parsers must have one.
func codeOf(t *testing.T, err error) uint {
	t.Helper()
	if err == nil {
		return 0
	}
	e := (*types.Error)(nil)
	if !errors.As(err, &e) || e.Code == 0 || e.Msg == "" {
		t.Fatalf("%v (%T) is not an error of CNI", err, err)
	}
	if len(e.Msg) > 4*maxText || len(e.Details) > 4*maxText+64 {
		t.Errorf("an error of %d and %d bytes", len(e.Msg), len(e.Details))
	}
	return e.Code
}

func TestNamesAreChecked(t *testing.T) {
	long := strings.Repeat("a", 63)
	tests := []struct {
		s                string
		label, subdomain bool
	}{
		{"a", true, true},
		{"kube-system", true, true},
		{"0", true, true},
		{long, true, true},
		{long + "a", false, true},
		{long + "." + long + "." + long + "." + strings.Repeat("a", 61), false, true},
		{long + "." + long + "." + long + "." + strings.Repeat("a", 62), false, false},
		{"a.b", false, true},
		{"", false, false},
		{"-a", false, false},
		{"a-", false, false},
		{"a.-b", false, false},
		{"a..b", false, false},
		{".a", false, false},
		{"a.", false, false},
		{"..", false, false},
		{"A", false, false},
		{"a_b", false, false},
		{"a/b", false, false},
		{"a\n", false, false},
		{"a\x00", false, false},
		{"ä", false, false},
	}
	for _, tt := range tests {
		if got := isLabel(tt.s); got != tt.label {
			t.Errorf("isLabel(%q) = %v", tt.s, got)
		}
		if got := isSubdomain(tt.s); got != tt.subdomain {
			t.Errorf("isSubdomain(%q) = %v", tt.s, got)
		}
	}
}

func FuzzInput(f *testing.F) {
	f.Add([]byte(conf("0.3.0", "/s", withResult(`,"timeoutSeconds":3,"failOpenNamespaces":["a"],"cni.dev/valid-attachments":[{"containerID":"a","ifname":"b"}]`))))
	f.Add([]byte(`{"prevResult":{"interfaces":[{"name":"eth0"}],"ips":[{"interface":0,"address":"::1/64"}]},"cni.dev/valid-attachments":null}`))
	f.Add([]byte(`{"prevResult":null,"failOpenNamespaces":[""]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := parseInput(data)
		if codeOf(t, err) != 0 {
			return
		}
		if in.Socket[0] != '/' || in.TimeoutSeconds < 1 || in.TimeoutSeconds > MaxTimeoutSeconds || in.FailOpenNamespaces == nil {
			t.Errorf("%+v", in.Conf)
		}
		addresses, err := in.addresses("eth0")
		if code := codeOf(t, err); code == 0 && len(addresses) == 0 {
			t.Error("no address and no error")
		}
		for _, text := range addresses {
			if addr, err := netip.ParseAddr(text); err != nil || addr.Is4In6() || addr.String() != text {
				t.Errorf("address %q", text)
			}
		}
		if len(in.PrevResult) > 0 && !strings.Contains(string(data), string(in.PrevResult)) {
			t.Errorf("the result %q is not as it came", in.PrevResult)
		}
		valid, err := in.valid()
		codeOf(t, err)
		for _, item := range valid.Items {
			if item.ContainerID == "" || item.IfName == "" {
				t.Errorf("%+v", valid)
			}
		}
	})
}

func FuzzArgs(f *testing.F) {
	f.Add(podOfShop)
	f.Add("CommonArgs=1;IgnoreUnknown=x")
	f.Add("K8S_POD_NAMESPACE=..;K8S_POD_NAME=a/b\n;")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseArgs(text)
		if codeOf(t, err) != 0 {
			return
		}
		for _, s := range []string{p.namespace, p.name, p.uid} {
			if strings.ContainsAny(s, "/\\\n\r\x00 %?#;=") || strings.Contains(p.name, "..") {
				t.Errorf("%+v", p)
			}
		}
		if p.namespace == "" || p.name == "" {
			t.Errorf("%+v", p)
		}
	})
}

func FuzzLink(f *testing.F) {
	f.Add(vethMessage())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		body, err := parseMessage(data)
		if err != nil {
			return
		}
		if l, err := parseLink(body); err == nil && l.peer <= 0 {
			t.Errorf("%+v", l)
		}
	})
}

func TestEveryKeyAndDefaultIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/cni.md")
	if err != nil {
		t.Fatal(err)
	}
	in, err := parseInput([]byte(`{"type":"overland-cni"}`))
	if err != nil {
		t.Fatal(err)
	}
	conf := reflect.ValueOf(in.Conf)
	for i := range conf.NumField() {
		key, _, _ := strings.Cut(conf.Type().Field(i).Tag.Get("json"), ",")
		value, err := json.Marshal(conf.Field(i).Interface())
		if err != nil {
			t.Fatal(err)
		}
		row := regexp.MustCompile("(?m)^\\| `" + key + "` \\|.*`" + regexp.QuoteMeta(strings.Trim(string(value), `"`)) + "`")
		if !row.Match(text) {
			t.Errorf("docs/cni.md has no row of key %s with its default %s", key, value)
		}
	}
}
