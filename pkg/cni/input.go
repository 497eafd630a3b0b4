package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/overland-net/overland/pkg/admin/api"
)

// input is what the runtime gives on stdin.
type input struct {
	Conf
	// PrevResult is kept as it came: it is what an ADD prints.
	PrevResult json.RawMessage `json:"prevResult"`
	// ValidAttachments are raw, so that a list that is not there can be told
	// from an empty one.
	ValidAttachments json.RawMessage `json:"cni.dev/valid-attachments"`
}

// parseInput decodes stdin, fills in what the configuration leaves to defaults,
// and refuses what it must not have.
func parseInput(data []byte) (input, error) {
	var in input
	if err := json.Unmarshal(data, &in); err != nil {
		return input{}, types.NewError(types.ErrDecodingFailure, "decode the configuration of "+PluginType, err.Error())
	}
	switch {
	case in.Socket == "":
		in.Socket = DefaultSocket
	case !strings.HasPrefix(in.Socket, "/"):
		return input{}, badConf("socket is %q: it must be an absolute path", in.Socket)
	}
	switch {
	case in.TimeoutSeconds == 0:
		in.TimeoutSeconds = DefaultTimeoutSeconds
	case in.TimeoutSeconds < 0 || in.TimeoutSeconds > MaxTimeoutSeconds:
		return input{}, badConf("timeoutSeconds is %d: it must be 1 to %d", in.TimeoutSeconds, MaxTimeoutSeconds)
	}
	if in.FailOpenNamespaces == nil {
		in.FailOpenNamespaces = DefaultFailOpenNamespaces()
	}
	for i, ns := range in.FailOpenNamespaces {
		// A pattern would match nothing, and nobody would know until it matters.
		if !isLabel(ns) {
			return input{}, badConf("failOpenNamespaces[%d] is %q: it must be the name of a namespace", i, ns)
		}
	}
	return in, nil
}

func badConf(format string, args ...any) *types.Error {
	return types.NewError(types.ErrInvalidNetworkConfig, "configuration of "+PluginType+": "+fmt.Sprintf(format, args...), "")
}

// absent tells a JSON value that is not there.
func absent(value json.RawMessage) bool {
	return len(value) == 0 || bytes.Equal(value, []byte("null"))
}

// addresses are those that the previous result gives the interface, without their
// lengths. An address that names no interface is the interface's: Azure's do not.
func (in *input) addresses(ifName string) ([]string, error) {
	if absent(in.PrevResult) {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, "there is no prevResult: "+PluginType+
			" makes no interface; it must be chained after the plugin that does, as azure-vnet", "")
	}
	// All versions that are supported have this in common.
	var result struct {
		Interfaces []struct {
			Name string `json:"name"`
		} `json:"interfaces"`
		IPs []struct {
			Interface *int   `json:"interface"`
			Address   string `json:"address"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(in.PrevResult, &result); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "decode prevResult", err.Error())
	}
	var addresses []string
	for i, ip := range result.IPs {
		if ip.Interface != nil {
			if *ip.Interface < 0 || *ip.Interface >= len(result.Interfaces) {
				return nil, badResult("ips[%d].interface is %d, and there are %d interfaces", i, *ip.Interface, len(result.Interfaces))
			}
			if result.Interfaces[*ip.Interface].Name != ifName {
				continue
			}
		}
		prefix, err := netip.ParsePrefix(ip.Address)
		if err != nil {
			return nil, badResult("ips[%d].address is %q: it must be an address with the length of its prefix", i, ip.Address)
		}
		addresses = append(addresses, prefix.Addr().Unmap().String())
	}
	if len(addresses) == 0 {
		return nil, badResult("it gives %s no address: policies are enforced by addresses", ifName)
	}
	return addresses, nil
}

func badResult(format string, args ...any) *types.Error {
	return types.NewError(types.ErrInvalidNetworkConfig, "prevResult: "+fmt.Sprintf(format, args...), "")
}

// valid are the attachments that a GC must leave alone. It is an error if the
// runtime does not say: everything would be deleted.
func (in *input) valid() (api.CNIAttachmentList, error) {
	const key = "cni.dev/valid-attachments"
	list := api.CNIAttachmentList{Items: []api.CNIAttachmentID{}}
	if len(in.ValidAttachments) == 0 {
		return list, types.NewError(types.ErrInvalidNetworkConfig, key+" is missing: nothing is deleted", "")
	}
	// What runtimes written in Go send for an empty list is null.
	var items []types.GCAttachment
	if err := json.Unmarshal(in.ValidAttachments, &items); err != nil {
		return list, types.NewError(types.ErrDecodingFailure, "decode "+key, err.Error())
	}
	for i, item := range items {
		if item.ContainerID == "" || item.IfName == "" {
			return list, types.NewError(types.ErrInvalidNetworkConfig,
				fmt.Sprintf("%s[%d] lacks containerID or ifname: nothing is deleted", key, i), "")
		}
		list.Items = append(list.Items, api.CNIAttachmentID{ContainerID: item.ContainerID, IfName: item.IfName})
	}
	return list, nil
}
