package conflist

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

const testEntry = `{"type":"overland-cni","timeoutSeconds":10}`

// azureText is the list that the lab's nodes have, which has Azure's form.
func azureText(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("../../../test/lab/azurecni/testdata/10-azure.conflist")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// minimal is a list with these plugins.
func minimal(plugins ...string) string {
	return `{"cniVersion":"0.3.0","name":"azure","plugins":[` + strings.Join(plugins, ",") + `]}`
}

const (
	vnet    = `{"type":"azure-vnet","mode":"transparent","ipam":{"type":"azure-vnet-ipam"}}`
	portmap = `{"type":"portmap","snat":true}`
)

func TestSourceIsTheFirstFileThatIsNotOurs(t *testing.T) {
	for name, tt := range map[string]struct {
		names []string
		want  string
		cause Cause
		says  string
	}{
		"azure's":               {names: []string{"10-azure.conflist"}, want: "10-azure.conflist"},
		"ours is none":          {names: []string{FileName, "10-azure.conflist"}, want: "10-azure.conflist"},
		"the first":             {names: []string{"15-azure-swift-overlay.conflist", "10-azure.conflist"}, want: "10-azure.conflist"},
		"of any ending":         {names: []string{"10-azure.conflist", "09-x.conf", "08-x.json"}, want: "08-x.json"},
		"not what is no list":   {names: []string{"10-azure.conflist", "10-azure.conflist-old", "00-a.old", ".overland-1.tmp"}, want: "10-azure.conflist"},
		"a hidden one counts":   {names: []string{"10-azure.conflist", ".conflist"}, cause: Foreign, says: ".conflist sorts before"},
		"nothing":               {cause: Absent, says: "no list of Azure CNI yet"},
		"only ours":             {names: []string{FileName}, cause: Absent, says: "no list of Azure CNI yet"},
		"before ours":           {names: []string{"05-cilium.conflist", "10-azure.conflist"}, cause: Foreign, says: "05-cilium.conflist sorts before 05-overland.conflist"},
		"azure's before ours":   {names: []string{"00-azure.conflist"}, cause: Foreign, says: "00-azure.conflist sorts before"},
		"capitals sort earlier": {names: []string{"1.conflist", "05-Z.conflist"}, cause: Foreign, says: "05-Z.conflist sorts before"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Source(tt.names)
			if tt.says == "" {
				if err != nil || got != tt.want {
					t.Errorf("got %q, %v; want %q", got, err, tt.want)
				}
				return
			}
			expectRefusal(t, err, tt.cause, tt.says)
		})
	}
}

func expectRefusal(t *testing.T, err error, cause Cause, says string) {
	t.Helper()
	r, ok := errors.AsType[*Refusal](err)
	if !ok || r.Cause != cause || !strings.Contains(r.Message, says) {
		t.Errorf("got %v (%+v), want cause %d and %q", err, r, cause, says)
	}
}

func TestOursIsAzuresWithOurEntryLast(t *testing.T) {
	got, err := Derive("10-azure.conflist", azureText(t), json.RawMessage(testEntry))
	if err != nil {
		t.Fatal(err)
	}
	var was, is struct {
		CNIVersion, Name string
		Plugins          []map[string]any
	}
	if err := errors.Join(json.Unmarshal(azureText(t), &was), json.Unmarshal(got, &is)); err != nil {
		t.Fatal(err)
	}
	if is.Name != was.Name || is.CNIVersion != was.CNIVersion || len(is.Plugins) != len(was.Plugins)+1 ||
		is.Plugins[len(is.Plugins)-1]["type"] != "overland-cni" {
		t.Errorf("got\n%s", got)
	}
	if fmt.Sprint(is.Plugins[:len(was.Plugins)]) != fmt.Sprint(was.Plugins) {
		t.Errorf("Azure's plugins have changed:\n%s", got)
	}
	if _, err := libcni.NetworkConfFromBytes(got); err != nil {
		t.Errorf("a runtime does not take it: %v", err)
	}
	again, err := Derive("10-azure.conflist", azureText(t), json.RawMessage(testEntry))
	if err != nil || string(again) != string(got) {
		t.Errorf("another time: %v\n%s", err, again)
	}
	// Made from itself it stays the same: nothing is added twice.
	if itself, err := Derive("10-azure.conflist", got, json.RawMessage(testEntry)); err != nil || string(itself) != string(got) {
		t.Errorf("made from itself: %v\n%s", err, itself)
	}
}

func TestForeignFieldsStayAsTheyAre(t *testing.T) {
	number := "12345678901234567890.10"
	text := `{"future":{"n":` + number + `,"a":"<&>é\u00e9"},"disableCheck":true,"cniVersion":"1.0.0","name":"azure",` +
		`"plugins":[{"type":"azure-vnet","mode":"transparent","big":` + number + `,"nil":null},{"type":"tuning","sysctl":{}}]}`
	got, err := Derive("10-azure.conflist", []byte(text), json.RawMessage(testEntry))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"n": ` + number, `"big": ` + number, `"a": "<&>é\u00e9"`, `"nil": null`, `"disableCheck": true`, `"cniVersion": "1.0.0"`, `"type": "tuning"`,
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("%s is missing in\n%s", want, got)
		}
	}
}

func TestOwnEntriesOfTheSourceAreReplaced(t *testing.T) {
	for name, text := range map[string]string{
		"at the end":  minimal(vnet, portmap, `{"type":"overland-cni","timeoutSeconds":99}`),
		"many":        minimal(`{"type":"overland-cni"}`, vnet, `{"type":"overland-cni"}`, portmap, `{"type":"overland-cni"}`),
		"type twice":  minimal(vnet, `{"type":"x","type":"overland-cni"}`, portmap),
		"other types": minimal(vnet, portmap),
	} {
		got, err := Derive("10-azure.conflist", []byte(text), json.RawMessage(testEntry))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if types := pluginTypes(t, got); fmt.Sprint(types) != "[azure-vnet portmap overland-cni]" || !strings.Contains(string(got), `"timeoutSeconds": 10`) {
			t.Errorf("%s: got %v\n%s", name, types, got)
		}
	}
}

// pluginTypes are what a runtime would call, in turn.
func pluginTypes(t testing.TB, text []byte) []string {
	t.Helper()
	list, err := libcni.NetworkConfFromBytes(text)
	if err != nil {
		t.Fatalf("a runtime does not take it: %v\n%s", err, text)
	}
	var types []string
	for _, p := range list.Plugins {
		types = append(types, p.Network.Type)
	}
	return types
}

func TestWhatIsNoListOfAzureCNIIsRefusedByName(t *testing.T) {
	const name = "10-azure.conflist"
	for about, tt := range map[string]struct {
		name, text string
		cause      Cause
		says       string
	}{
		"empty":                {name, "", Damaged, "it is empty"},
		"blank":                {name, " \n", Damaged, "it is empty"},
		"byte order mark":      {name, "\xef\xbb\xbf" + minimal(vnet), Damaged, "byte order mark"},
		"no JSON":              {name, "azure", Damaged, "invalid character"},
		"two values":           {name, minimal(vnet) + "{}", Damaged, "invalid character"},
		"no object":            {name, "[]", Damaged, "cannot unmarshal array"},
		"null":                 {name, "null", Damaged, "no name"},
		"no name":              {name, `{"cniVersion":"0.3.0","plugins":[` + vnet + `]}`, Damaged, "no name"},
		"empty name":           {name, `{"name":"","cniVersion":"0.3.0","plugins":[` + vnet + `]}`, Damaged, "name is empty"},
		"bad name":             {name, `{"name":"a/b","cniVersion":"0.3.0","plugins":[` + vnet + `]}`, Damaged, "a/b"},
		"no version":           {name, `{"name":"azure","plugins":[` + vnet + `]}`, Damaged, "no cniVersion"},
		"bad version":          {name, `{"name":"azure","cniVersion":"one","plugins":[` + vnet + `]}`, Damaged, "one"},
		"no plugins":           {name, `{"name":"azure","cniVersion":"0.3.0"}`, Damaged, "no plugins"},
		"empty plugins":        {name, minimal(), Damaged, "no plugins"},
		"plugin without type":  {name, minimal(vnet, `{}`), Damaged, "missing 'type'"},
		"plugin is no object":  {name, minimal(vnet, `"portmap"`), Damaged, "plugin config 1"},
		"too large":            {name, minimal(vnet) + strings.Repeat(" ", maxText), Damaged, "more than 1048576 bytes"},
		"bad mode":             {name, minimal(`{"type":"azure-vnet","mode":1}`), Damaged, "mode"},
		"old version":          {name, strings.Replace(minimal(vnet), "0.3.0", "0.2.0", 1), Foreign, "CNI version 0.2.0"},
		"new version":          {name, strings.Replace(minimal(vnet), "0.3.0", "9.0.0", 1), Foreign, "CNI version 9.0.0"},
		"cilium's":             {"10-cilium.conflist", minimal(`{"type":"cilium-cni"}`), Foreign, "10-cilium.conflist has plugin cilium-cni"},
		"chained with cilium":  {name, minimal(vnet, `{"type":"cilium-cni"}`), Foreign, "cilium-cni"},
		"a bridge":             {"10-bridge.conflist", minimal(`{"type":"bridge"}`, portmap), Foreign, `10-bridge.conflist is not Azure CNI's: a list with plugin azure-vnet is expected, and this one has ["bridge" "portmap"]`},
		"a single plugin":      {"10-azure.conf", vnet, Foreign, "10-azure.conf is the configuration of a single plugin"},
		"a list in .json":      {"10-azure.json", minimal(vnet), Foreign, "10-azure.json is the configuration of a single plugin"},
		"bridge mode":          {name, minimal(`{"type":"azure-vnet","mode":"bridge"}`), Foreign, `mode "bridge": mode transparent is expected`},
		"tunnel mode":          {name, minimal(`{"type":"azure-vnet","mode":"tunnel"}`), Foreign, `mode "tunnel"`},
		"VLAN mode":            {name, minimal(`{"type":"azure-vnet","mode":"transparent-vlan"}`), Foreign, `mode "transparent-vlan"`},
		"default mode":         {name, minimal(`{"type":"azure-vnet"}`), Foreign, "no mode, which means tunnel"},
		"mode in capitals":     {name, minimal(`{"type":"azure-vnet","MODE":"bridge"}`), Foreign, `mode "bridge"`},
		"several tenants":      {name, minimal(`{"type":"azure-vnet","mode":"transparent","multiTenancy":true}`), Foreign, "multiTenancy"},
		"bare metal":           {name, minimal(`{"type":"azure-vnet","mode":"transparent","executionMode":"baremetal"}`), Foreign, "baremetal"},
		"one of two":           {name, minimal(vnet, `{"type":"azure-vnet","mode":"bridge"}`), Foreign, `mode "bridge"`},
		"plugins in capitals":  {name, `{"name":"azure","cniVersion":"0.3.0","Plugins":[` + vnet + `]}`, Damaged, "no plugins"},
		"inlined only, and no": {name, `{"name":"azure","cniVersion":"0.3.0","loadOnlyInlinedPlugins":true}`, Damaged, "loadOnlyInlinedPlugins"},
	} {
		t.Run(about, func(t *testing.T) {
			got, err := Derive(tt.name, []byte(tt.text), json.RawMessage(testEntry))
			if got != nil {
				t.Errorf("a list:\n%s", got)
			}
			expectRefusal(t, err, tt.cause, tt.says)
		})
	}
}

func TestModesOfAKSAreTaken(t *testing.T) {
	for name, plugin := range map[string]string{
		"node subnet": vnet,
		"pod subnet":  `{"type":"azure-vnet","mode":"transparent","executionMode":"v4swift","ipam":{"type":"azure-cns"}}`,
		"dual stack":  `{"type":"azure-vnet","mode":"transparent","ipv6Mode":"ipv6nat","ipam":{"type":"azure-vnet-ipam"}}`,
	} {
		if _, err := Derive("10-azure.conflist", []byte(minimal(plugin, portmap)), json.RawMessage(testEntry)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	versions := strings.Replace(minimal(vnet), `"cniVersion":"0.3.0"`, `"cniVersions":["0.3.1","1.0.0","99.0.0"]`, 1)
	if _, err := Derive("10-azure.conflist", []byte(versions), json.RawMessage(testEntry)); err != nil {
		t.Errorf("several versions: %v", err)
	}
}

func TestHalfOfAListIsNeverTaken(t *testing.T) {
	text := azureText(t)
	end := strings.LastIndexByte(string(text), '}')
	for n := range text {
		got, err := Derive("10-azure.conflist", text[:n], json.RawMessage(testEntry))
		if n > end {
			if err != nil {
				t.Errorf("%d of %d bytes, which are all but blanks: %v", n, len(text), err)
			}
			continue
		}
		if r, ok := errors.AsType[*Refusal](err); got != nil || !ok || r.Cause != Damaged {
			t.Fatalf("%d of %d bytes: %v\n%s", n, len(text), err, got)
		}
	}
}

func TestAHugeListIsTaken(t *testing.T) {
	var many []string
	for n := range 2000 {
		many = append(many, fmt.Sprintf(`{"type":"p%d","text":%q}`, n, strings.Repeat("x", 300)))
	}
	got, err := Derive("10-azure.conflist", []byte(minimal(append(many, vnet)...)), json.RawMessage(testEntry))
	if err != nil {
		t.Fatal(err)
	}
	if types := pluginTypes(t, got); len(types) != 2002 || types[2001] != "overland-cni" {
		t.Errorf("%d plugins", len(types))
	}
}

func FuzzDerive(f *testing.F) {
	text := azureText(f)
	f.Add(text)
	f.Add(text[:len(text)/2])
	for _, text := range []string{
		minimal(vnet, portmap), minimal(vnet, `{"type":"overland-cni"}`), minimal(), `{}`, `null`, ``,
		`{"name":"a","name":"b","cniVersions":["1.0.0"],"plugins":[` + vnet + `],"plugins":[` + vnet + `]}`,
		`{"name":"azure","cniVersion":"1.0.0","plugins":[{"Type":"azure-vnet","type":"azure-vnet","mode":"transparent"}]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := Derive("10-azure.conflist", text, json.RawMessage(testEntry))
		if err != nil {
			if _, ok := errors.AsType[*Refusal](err); !ok || got != nil {
				t.Fatalf("%v\n%s", err, got)
			}
			return
		}
		theirs, err := libcni.NetworkConfFromBytes(text)
		if err != nil {
			t.Fatalf("made from what a runtime does not take: %v", err)
		}
		ours, err := libcni.NetworkConfFromBytes(got)
		if err != nil {
			t.Fatalf("a runtime does not take it: %v\n%s", err, got)
		}
		if ours.Name != theirs.Name || ours.CNIVersion != theirs.CNIVersion {
			t.Errorf("name or version differ:\n%s", got)
		}
		var want []string
		azure := false
		for _, p := range theirs.Plugins {
			azure = azure || p.Network.Type == azureType
			if p.Network.Type != "overland-cni" {
				want = append(want, string(p.Bytes))
			}
		}
		var have []string
		for _, p := range ours.Plugins {
			have = append(have, string(p.Bytes))
		}
		if !azure || fmt.Sprint(have[:len(have)-1]) != fmt.Sprint(want) || ours.Plugins[len(have)-1].Network.Type != "overland-cni" {
			t.Errorf("plugins differ:\n%s\n%s", text, got)
		}
		if again, err := Derive("10-azure.conflist", got, json.RawMessage(testEntry)); err != nil || string(again) != string(got) {
			t.Errorf("made from itself: %v\n%s", err, again)
		}
	})
}
