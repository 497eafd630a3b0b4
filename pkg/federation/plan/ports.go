package plan

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/overland-net/overland/pkg/model"
)

// maxPorts is how many ports an EndpointSlice of ours has.
const maxPorts = 100

// port is a port of an endpoint.
type port struct {
	name, protocol string
	number         int32
	app            string // appProtocol; empty: none
}

// portList are the ports of an endpoint, by name. Lists of one plan that are equal
// are the same one.
type portList struct {
	ports []port
	key   string
}

// portLists makes lists of ports the same.
type portLists map[string]*portList

func (l portLists) of(ports []port) *portList {
	key := portKey(ports)
	if known := l[key]; known != nil {
		return known
	}
	made := &portList{ports: ports, key: key}
	l[key] = made
	return made
}

// portKey is a text that only equal lists have: no name contains a separator.
func portKey(ports []port) string {
	var b strings.Builder
	for _, p := range ports {
		b.WriteString(p.name + " " + p.protocol + " " + strconv.Itoa(int(p.number)) + " " + p.app + "\n")
	}
	return b.String()
}

func byName(a, b port) int { return cmp.Compare(a.name, b.name) }

// served are the ports of a federated Service, by name.
type served struct {
	protocols map[string]string
	// any: headless without ports, all addresses are taken (semantics 4.4).
	any bool
}

func servedPorts(s *model.Service) served {
	out := served{any: s.Headless && len(s.Ports) == 0, protocols: make(map[string]string, len(s.Ports))}
	for _, p := range s.Ports {
		out.protocols[p.Name] = p.Protocol.String()
	}
	return out
}

// take is the ports of a slice that are served, and the names of those that would
// be and are no ports that the API takes. Without any: none match.
func (s served) take(ports []model.EndpointPort) (taken []port, bad []string) {
	if s.any {
		return nil, nil
	}
	for _, p := range ports {
		protocol := cmp.Or(p.Protocol, string(corev1.ProtocolTCP))
		if want, ok := s.protocols[p.Name]; !ok || want != protocol || p.Port == 0 {
			continue
		}
		again := slices.ContainsFunc(taken, func(t port) bool { return t.name == p.Name })
		if p.Port < 0 || p.Port > 65535 || p.AppProtocol != "" && !qualifiedName(p.AppProtocol) || again {
			bad = append(bad, p.Name)
			continue
		}
		taken = append(taken, port{p.Name, protocol, p.Port, p.AppProtocol})
	}
	slices.SortFunc(taken, byName)
	return taken[:min(len(taken), maxPorts)], bad
}

// union is a list and those ports of another whose names it has not; the same one
// if there are none.
func (l portLists) union(a, b *portList) *portList {
	merged := a.ports
	for _, p := range b.ports {
		if !slices.ContainsFunc(a.ports, func(t port) bool { return t.name == p.name }) && len(merged) < maxPorts {
			merged = append(merged[:len(merged):len(merged)], p)
		}
	}
	if len(merged) == len(a.ports) {
		return a
	}
	slices.SortFunc(merged, byName)
	return l.of(merged)
}

// writtenPorts reads the ports of an EndpointSlice of ours back.
func writtenPorts(ports []discoveryv1.EndpointPort) []port {
	out := make([]port, 0, len(ports))
	for _, p := range ports {
		w := port{name: value(p.Name), protocol: string(corev1.ProtocolTCP), number: value(p.Port), app: value(p.AppProtocol)}
		if p.Protocol != nil {
			w.protocol = string(*p.Protocol)
		}
		out = append(out, w)
	}
	slices.SortFunc(out, byName)
	return out
}

// write is the list as the API has it.
func (l *portList) write() []discoveryv1.EndpointPort {
	var out []discoveryv1.EndpointPort
	for _, p := range l.ports {
		w := discoveryv1.EndpointPort{Name: new(p.name), Protocol: new(corev1.Protocol(p.protocol)), Port: new(p.number)}
		if p.app != "" {
			w.AppProtocol = new(p.app)
		}
		out = append(out, w)
	}
	return out
}

// value is what is pointed to, or zero.
func value[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}
