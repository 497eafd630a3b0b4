package conflist

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"
)

// FileName is the name of our list. It sorts before all that Azure has used
// (10-azure.conflist, 15-azure-swift-overlay.conflist).
const FileName = "05-overland.conflist"

const (
	// azureType is the type of the plugin whose interfaces we enforce policies on.
	azureType = "azure-vnet"
	// transparent is the one of its modes in which each pod has a link and a route.
	transparent = "transparent"
	// maxText bounds a list; those of Azure have about 1 KB.
	maxText = 1 << 20
	// oldest is the oldest version of CNI in which results have what our plugin
	// needs; the newest is that of the library.
	oldest = "0.3.0"
)

// Cause is why there is no list of ours.
type Cause uint8

const (
	// Absent: there is no list to make ours from: the node's network is not ready.
	Absent Cause = iota
	// Damaged: the list is not a valid one; perhaps it is just being written.
	Damaged
	// Foreign: the list is one that we must not put ourselves before.
	Foreign
)

// Refusal is why there is no list of ours: what was found, where, and what was
// expected.
type Refusal struct {
	Cause   Cause
	Message string
}

func (r *Refusal) Error() string { return r.Message }

func refuse(cause Cause, format string, args ...any) error {
	return &Refusal{Cause: cause, Message: fmt.Sprintf(format, args...)}
}

// Source is which of a folder's files, by their names, a runtime would use
// without us: the first in lexical order, whatever it is. To pass over one would
// make the node use another network than its administrator wants. The error is a
// *Refusal.
func Source(names []string) (string, error) {
	others := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == FileName || !isConfiguration(name) })
	if len(others) == 0 {
		return "", refuse(Absent, "no list of Azure CNI yet: waiting for it (10-azure.conflist or the like), which appears when the node's network is ready")
	}
	first := slices.Min(others)
	if first < FileName {
		return "", refuse(Foreign, "%s sorts before %s, so that the container runtime uses it and not ours: "+
			"pods start without Overland's plugin until it is removed or renamed", first, FileName)
	}
	return first, nil
}

// isConfiguration tells the names that runtimes look at.
func isConfiguration(name string) bool {
	switch filepath.Ext(name) {
	case ".conflist", ".conf", ".json":
		return true
	}
	return false
}

// Derive is our list: that of the file name with our entry, the configuration of
// our plugin, at its end. All else stays as it is, but for blanks and the order
// of the outermost fields. The same input gives the same bytes. The error is a
// *Refusal.
func Derive(name string, text []byte, entry json.RawMessage) ([]byte, error) {
	if filepath.Ext(name) != ".conflist" {
		return nil, refuse(Foreign, "%s is the configuration of a single plugin: a list (.conflist) with plugin %s is expected", name, azureType)
	}
	if len(text) > maxText {
		return nil, refuse(Damaged, "%s has more than %d bytes: the list of Azure CNI is expected", name, maxText)
	}
	list, err := parse(text)
	if err != nil {
		return nil, refuse(Damaged, "%s is not a valid list of plugins: %v", name, err)
	}
	if err := suitable(name, list); err != nil {
		return nil, err
	}
	own, err := libcni.NetworkPluginConfFromBytes(entry)
	if err != nil {
		return nil, refuse(Foreign, "the configuration of our own plugin is not valid: %v", err)
	}
	ours, err := compose(text, list, entry, own.Network.Type)
	if err != nil {
		return nil, refuse(Damaged, "%s cannot be extended: %v", name, err)
	}
	return ours, nil
}

// parse reads a list as the runtime does.
func parse(text []byte) (*libcni.NetworkConfigList, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, fmt.Errorf("it is empty")
	}
	if bytes.HasPrefix(text, []byte("\xef\xbb\xbf")) {
		return nil, fmt.Errorf("it begins with a byte order mark, which container runtimes do not accept")
	}
	list, err := libcni.NetworkConfFromBytes(text)
	if err != nil {
		return nil, err
	}
	if list.Name == "" {
		return nil, fmt.Errorf("its name is empty")
	}
	if err := utils.ValidateNetworkName(list.Name); err != nil {
		return nil, err
	}
	if list.CNIVersion == "" {
		return nil, fmt.Errorf("it has no cniVersion")
	}
	if _, _, _, err := version.ParseVersion(list.CNIVersion); err != nil {
		return nil, err
	}
	if len(list.Plugins) == 0 {
		return nil, fmt.Errorf("it has no plugins")
	}
	return list, nil
}

// azure is what tells whether policies can be enforced on the interfaces that
// azure-vnet makes.
type azure struct {
	Mode          string `json:"mode"`
	MultiTenancy  bool   `json:"multiTenancy"`
	ExecutionMode string `json:"executionMode"`
}

// suitable refuses a valid list that is not one to enforce policies on.
func suitable(name string, list *libcni.NetworkConfigList) error {
	old, err := version.GreaterThan(oldest, list.CNIVersion)
	if err != nil {
		return refuse(Damaged, "%s: %v", name, err)
	}
	fresh, err := version.GreaterThan(list.CNIVersion, version.Current())
	if err != nil {
		return refuse(Damaged, "%s: %v", name, err)
	}
	if old || fresh {
		return refuse(Foreign, "%s is of CNI version %s: Overland's plugin knows %s to %s", name, list.CNIVersion, oldest, version.Current())
	}
	found := false
	var types []string
	for _, p := range list.Plugins {
		types = append(types, p.Network.Type)
		switch p.Network.Type {
		case azureType:
			if err := enforceable(name, p.Bytes); err != nil {
				return err
			}
			found = true
		case "cilium-cni":
			return refuse(Foreign, "%s has plugin cilium-cni, which enforces policies itself: Overland cannot run beside it", name)
		}
	}
	if !found {
		return refuse(Foreign, "%s is not Azure CNI's: a list with plugin %s is expected, and this one has %q", name, azureType, types)
	}
	return nil
}

// enforceable refuses what azure-vnet does with pods that we cannot enforce
// policies on.
func enforceable(name string, conf []byte) error {
	var a azure
	if err := json.Unmarshal(conf, &a); err != nil {
		return refuse(Damaged, "%s: plugin %s: %v", name, azureType, err)
	}
	switch {
	case a.MultiTenancy:
		return refuse(Foreign, "%s: plugin %s has multiTenancy: pods' traffic does not pass the node's own network, and policies cannot be enforced", name, azureType)
	case a.Mode == "":
		return refuse(Foreign, "%s: plugin %s has no mode, which means tunnel: mode %s is expected, in others policies cannot be enforced", name, azureType, transparent)
	case a.Mode != transparent:
		return refuse(Foreign, "%s: plugin %s has mode %q: mode %s is expected, in others policies cannot be enforced", name, azureType, a.Mode, transparent)
	case a.ExecutionMode == "baremetal":
		return refuse(Foreign, "%s: plugin %s has executionMode baremetal: another program makes pods' interfaces, and policies cannot be enforced", name, azureType)
	}
	return nil
}

// compose writes the list with our entry last and nowhere else. What list says of
// a plugin is told from what the runtime understands; what is written is the text
// that was there.
func compose(text []byte, list *libcni.NetworkConfigList, entry json.RawMessage, own string) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	var plugins, kept []json.RawMessage
	if err := json.Unmarshal(fields["plugins"], &plugins); err != nil {
		return nil, err
	}
	if len(plugins) != len(list.Plugins) {
		return nil, fmt.Errorf("%d plugins are written and %d understood", len(plugins), len(list.Plugins))
	}
	for i, p := range plugins {
		if list.Plugins[i].Network.Type != own {
			kept = append(kept, p)
		}
	}
	joined, err := encode(append(kept, entry))
	if err != nil {
		return nil, err
	}
	fields["plugins"] = joined
	whole, err := encode(fields)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, whole, "", "  "); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// encode is v as JSON, with texts as they are.
func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return out.Bytes(), err
}
