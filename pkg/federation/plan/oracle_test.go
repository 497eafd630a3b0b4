package plan

//lint:file-ignore SA1019 readers of the deprecated Endpoints are served on purpose (semantics 4.6)

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/overland-net/overland/pkg/index"
	"github.com/overland-net/overland/pkg/model"
)

// The oracle says what a federated Service has to have, slowly, from lists of
// facts, sentence by sentence of the specification. It knows what is published by
// reading the objects, as the specification says.

// oldEndpoint is an endpoint as the oracle has it.
type oldEndpoint struct {
	cluster, addr, ports        string
	ready, serving, terminating bool
	host, zone, node            string
	kind, ns, name, uid         string
	hints                       string
}

func (e oldEndpoint) local() bool { return e.cluster == west }

// slice is the line of an endpoint in an EndpointSlice.
func (e oldEndpoint) slice() string {
	target := fmt.Sprintf("%s/%s/%s/%s", e.kind, e.ns, e.name, e.uid)
	node := e.node
	if !e.local() {
		target, node = "///", ""
	}
	return fmt.Sprintf("%s %s [%s] %v/%v/%v host=%s zone=%s node=%s target=%s hints=%s",
		e.cluster, e.addr, e.ports, e.ready, e.serving, e.terminating, e.host, e.zone, node, target, e.hints)
}

// old is the line of an endpoint in an Endpoints object.
func (e oldEndpoint) old() string {
	name := e.name
	if !e.local() && name != "" {
		name = e.cluster + "/" + name
	}
	return fmt.Sprintf("%s [%s] %v host=%s node=%s target=%s/%s/%s/%s", e.addr, e.ports, e.ready, e.host, e.node, e.kind, e.ns, name, e.uid)
}

// wanted is what the oracle says.
type wanted struct {
	published, parked, endpoints []string
	reason                       string
	states                       map[string]State
}

// expression is an expression of the generator, and what it means.
type expression struct {
	text  string
	means func(labels map[string]string, cluster string) bool // cluster: empty for a local one
}

func expressions() []expression {
	yes := func(l map[string]string, _ string) bool { return l["federation"] == "yes" }
	return []expression{
		{`federation == "yes"`, yes},
		{`federation=='yes'`, yes},
		{`has(federation) && tier != 'db'`, func(l map[string]string, _ string) bool {
			_, ok := l["federation"]
			return ok && l["tier"] != "db"
		}},
		{``, func(map[string]string, string) bool { return true }},
		{`federation.tigera.io/remoteClusterName == 'canada' || tier == 'db'`, func(l map[string]string, c string) bool {
			return c == canada || l["tier"] == "db"
		}},
		{`!has(federation.overland.dev/remoteClusterName)`, func(_ map[string]string, c string) bool { return c == "" }},
		{`federation ==`, nil},
		{`federation == "yes" or`, nil},
	}
}

// meaningOf is what an expression of the generator means; nil: an error.
func meaningOf(text string) func(map[string]string, string) bool {
	for _, e := range expressions() {
		if e.text == text {
			return e.means
		}
	}
	return nil
}

// oracle is what to expect after a plan for a Service has been applied to a server
// that had what had says.
func (w *world) oracle(k model.Key, had map[string]oldHave) wanted {
	svc := w.services[k]
	memory := had[k.String()]
	if svc == nil {
		return wanted{published: memory.lines(false), parked: memory.lines(true), endpoints: memory.endpoints}
	}
	expr, reason := w.declaredBy(svc)
	if expr == "-" {
		out := wanted{}
		if svc.Selecting {
			out.endpoints = memory.endpoints
		}
		return out
	}
	if reason != "" {
		expr = memory.applied
	}
	served := !svc.External && !svc.Selecting
	means := meaningOf(expr)
	if expr == "?" || !served && len(memory.objects) == 0 {
		means = nil
	}
	var out wanted
	if means != nil {
		out = w.oracleServe(svc, means, memory)
	} else {
		out.endpoints = memory.endpoints
	}
	switch {
	case svc.External:
		out.reason = ReasonExternalName
	case svc.Selecting:
		out.reason = ReasonSelectorSet
	case reason != "":
		out.reason = reason
	case w.foreignSlice(svc):
		out.reason = ReasonForeignEndpoints
	}
	return out
}

// declaredBy is the expression of a Service: "-" if it has none.
func (w *world) declaredBy(svc *model.Service) (string, string) {
	var texts []string
	for _, key := range []string{
		"federation.overland.dev/serviceSelector", "federation.tigera.io/serviceSelector", "federation.www.tigera.io/serviceSelector",
	} {
		if text, ok := svc.Annotations[key]; ok {
			texts = append(texts, text)
		}
	}
	if len(texts) == 0 {
		return "-", ""
	}
	for _, text := range texts {
		if meaningOf(text) == nil {
			return "", ReasonInvalidExpression
		}
	}
	same := func(text string) string {
		if text == `federation=='yes'` {
			return `federation == "yes"`
		}
		return text
	}
	for _, text := range texts {
		if same(text) != same(texts[0]) {
			return "", ReasonAnnotationsDisagree
		}
	}
	return texts[0], ""
}

func (w *world) foreignSlice(svc *model.Service) bool {
	for k, s := range w.slices {
		if k.Cluster == west && k.Namespace == svc.Key.Namespace && s.Service == svc.Key.Name && s.ManagedBy != "federation.overland.dev" {
			return true
		}
	}
	return false
}

// oraclePart is a cluster's part.
type oraclePart struct {
	Cluster
	backs, unmatched int
	eps              []oldEndpoint
	age              string // fresh, spare or withdrawn
	ready            int
	state            State
	onlyReady        bool
}

func (w *world) oracleServe(svc *model.Service, means func(map[string]string, string) bool, memory oldHave) wanted {
	var parts []*oraclePart
	view := w.index.View()
	for _, c := range w.clusters {
		p := &oraclePart{Cluster: c, age: "fresh"}
		if !c.Local && !c.InContact {
			if age := w.now.Sub(c.LastContact); c.StaleAfter > 0 && age >= c.StaleAfter {
				p.age = "withdrawn"
			} else if age >= c.SpareAfter {
				p.age = "spare"
			}
		}
		if c.Listed {
			w.oracleTake(svc, means, view, p)
		} else {
			p.eps = memory.of(c.Name)
			if len(p.eps) > 0 {
				p.backs = 1
			}
		}
		pods := map[string]bool{}
		for _, e := range p.eps {
			if e.ready {
				pods[podOf(view, e)] = true
			}
		}
		p.ready = len(pods)
		parts = append(parts, p)
	}
	oracleHostnames(parts, memory)
	w.oracleChoose(svc, parts, memory)
	return oracleWrite(svc, parts, memory)
}

func podOf(view index.View, e oldEndpoint) string {
	if e.local() {
		if e.kind == "Pod" {
			return e.name
		}
		return e.addr
	}
	if owner, ok := view.Owner(netip.MustParseAddr(e.addr)); ok && owner.Key.Kind == model.KindPod {
		return owner.Key.String()
	}
	return e.addr
}

// oracleTake is 4.2, 4.4 and 4.5.
func (w *world) oracleTake(svc *model.Service, means func(map[string]string, string) bool, view index.View, p *oraclePart) {
	var services []*model.Service
	for k, s := range w.services {
		remote := p.Name
		if p.Local {
			remote = ""
		}
		if k.Cluster == p.Name && k.Namespace == svc.Key.Namespace && !s.External && !s.Federated() && means(s.Labels.Map(), remote) {
			services = append(services, s)
		}
	}
	p.backs = len(services)
	sort.Slice(services, func(i, j int) bool {
		a, b := services[i], services[j]
		return a.Created < b.Created || a.Created == b.Created && a.Key.Name < b.Key.Name
	})
	type offer struct {
		oldEndpoint
		ports map[string]string
	}
	var order []string
	best := map[string]*offer{}
	for _, s := range services {
		for _, ready := range []bool{true, false} {
			for _, sl := range w.slicesOf(s) {
				ports := oraclePorts(svc, sl.Ports)
				for _, e := range sl.Endpoints {
					got, ok := w.oracleEndpoint(svc, sl, e, p, view)
					if !ok || got.ready != ready {
						continue
					}
					if len(ports) == 0 && !(svc.Headless && len(svc.Ports) == 0) {
						p.unmatched++
						continue
					}
					if best[got.addr] == nil {
						best[got.addr] = &offer{got, map[string]string{}}
						order = append(order, got.addr)
					}
					for name, text := range ports {
						if _, has := best[got.addr].ports[name]; !has {
							best[got.addr].ports[name] = text
						}
					}
				}
			}
		}
	}
	for _, a := range order {
		o := best[a]
		if svc.PublishNotReady {
			o.ready = true
		}
		var texts []string
		for _, text := range o.ports {
			texts = append(texts, text)
		}
		sort.Strings(texts)
		o.oldEndpoint.ports = strings.Join(texts, ",")
		p.eps = append(p.eps, o.oldEndpoint)
	}
}

func (w *world) slicesOf(s *model.Service) []*model.EndpointSlice {
	var out []*model.EndpointSlice
	for k, sl := range w.slices {
		if k.Cluster == s.Key.Cluster && k.Namespace == s.Key.Namespace && sl.Service == s.Key.Name && sl.ManagedBy != "federation.overland.dev" {
			out = append(out, sl)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key.Name < out[j].Key.Name })
	return out
}

// oraclePorts are the ports taken, by name (4.4).
func oraclePorts(svc *model.Service, ports []model.EndpointPort) map[string]string {
	out := map[string]string{}
	for _, p := range ports {
		protocol := p.Protocol
		if protocol == "" {
			protocol = "TCP"
		}
		valid := len(validation.IsValidPortNum(int(p.Port))) == 0 && (p.AppProtocol == "" || len(validation.IsQualifiedName(p.AppProtocol)) == 0)
		for _, want := range svc.Ports {
			if _, has := out[p.Name]; !has && valid && want.Name == p.Name && want.Protocol.String() == protocol {
				out[p.Name] = p.Name + "/" + protocol + "/" + strconv.Itoa(int(p.Port)) + "/" + p.AppProtocol
			}
		}
	}
	return out
}

// oracleEndpoint is an endpoint of a slice, and whether it is taken (4.5).
func (w *world) oracleEndpoint(svc *model.Service, sl *model.EndpointSlice, e model.SliceEndpoint, p *oraclePart, view index.View) (oldEndpoint, bool) {
	if len(e.Addresses) == 0 {
		return oldEndpoint{}, false
	}
	a, err := netip.ParseAddr(e.Addresses[0])
	family := map[string]uint8{"IPv4": 4, "IPv6": 6}[sl.AddressType]
	t := e.Target
	switch {
	case err != nil || a.Is4() != (family == 4) || family == 0 || a.Zone() != "" || a.Is4In6(),
		a.IsUnspecified() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast(),
		len(svc.Families) > 0 && !slices.Contains(svc.Families, family),
		e.Hostname != "" && len(validation.IsDNS1123Label(e.Hostname)) > 0,
		e.Node != "" && len(validation.IsDNS1123Subdomain(e.Node)) > 0,
		len(validation.IsValidLabelValue(e.Zone)) > 0,
		t != model.TargetRef{} && (len(validation.IsDNS1123Subdomain(t.Name)) > 0 || t.Kind == ""),
		t.Kind == "Pod" && t.Namespace != svc.Key.Namespace:
		return oldEndpoint{}, false
	}
	if !p.Local && !w.oracleOwns(svc, p, a, view) {
		return oldEndpoint{}, false
	}
	bool3 := func(t model.Tristate, absent bool) bool { return t == model.True || t == model.Unset && absent }
	ready := bool3(e.Ready, true)
	return oldEndpoint{
		cluster: p.Name, addr: a.String(), ready: ready, serving: bool3(e.Serving, ready), terminating: bool3(e.Terminating, false),
		host: e.Hostname, zone: e.Zone, node: e.Node, kind: t.Kind, ns: t.Namespace, name: t.Name, uid: t.UID,
	}, true
}

// oracleOwns is whether a linked cluster may name an address.
func (w *world) oracleOwns(svc *model.Service, p *oraclePart, a netip.Addr, view index.View) bool {
	for k, s := range w.services {
		if k.Cluster == west && slices.Contains(s.ClusterIPs, a) {
			return false
		}
	}
	if _, refused := view.Refuses(p.Name, a); refused {
		return false
	}
	owner, ok := view.Owner(a)
	if ok && owner.Key.Cluster != p.Name {
		return false
	}
	return p.External || ok && (owner.Key.Kind == model.KindNode || owner.Key.Namespace == svc.Key.Namespace)
}

// oracleChoose is 4.7 and 4.9.
func (w *world) oracleChoose(svc *model.Service, parts []*oraclePart, memory oldHave) {
	minReady, settle := 1, 30*time.Second
	if n, err := strconv.Atoi(svc.Annotations["federation.overland.dev/min-ready"]); err == nil && n > 0 {
		minReady = n
	}
	if d, err := time.ParseDuration(svc.Annotations["federation.overland.dev/settle"]); err == nil && d >= 0 {
		settle = d
	}
	text := svc.Annotations["federation.overland.dev/preference"]
	sufficient := func(p *oraclePart) bool { return p.age == "fresh" && p.ready >= minReady }
	settled := func(p *oraclePart) bool {
		since, ok := memory.since[p.Name]
		if !ok {
			since = w.now
		}
		return w.now.Sub(since) >= settle
	}
	everybody := func(of []*oraclePart, onlyReady bool) {
		sum := 0
		for _, p := range of {
			if p.age == "fresh" {
				sum += p.ready
			}
		}
		for _, p := range of {
			p.onlyReady = onlyReady
			p.state = StateServing
			if p.age == "spare" && sum >= minReady {
				p.state = StateSpare
			}
			if p.age == "withdrawn" {
				p.state = StateWithdrawn
			}
		}
	}
	alone := func(one *oraclePart) {
		for _, p := range parts {
			if p.state == StateUnlisted {
				continue
			}
			if p.state = StatePreferredElsewhere; p.age == "withdrawn" {
				p.state = StateWithdrawn
			}
		}
		one.state = StateServing
	}
	edited := memory.preference != oraclePreference(text)
	if text == "" || text == "any" {
		everybody(parts, false)
		return
	}
	if text == "local" {
		if sufficient(parts[0]) && (memory.serving == west || edited || settled(parts[0])) {
			alone(parts[0])
			return
		}
		everybody(parts, false)
		return
	}
	var listed []*oraclePart
	for _, name := range strings.Split(oraclePreference(text), ",") {
		for _, p := range parts {
			if p.Name == name {
				listed = append(listed, p)
			}
		}
	}
	for _, p := range parts {
		if !slices.Contains(listed, p) {
			p.state = StateUnlisted
		}
	}
	var now *oraclePart
	for _, p := range listed {
		if memory.serving == p.Name {
			now = p
		}
	}
	for _, p := range listed {
		if !sufficient(p) {
			continue
		}
		waits := p != now && !edited && (memory.serving == "*" || now != nil && sufficient(now))
		if !waits || settled(p) {
			alone(p)
			return
		}
	}
	everybody(listed, true)
}

// oraclePreference is the order with the local cluster by its name.
func oraclePreference(text string) string {
	switch text {
	case "", "any":
		return "any"
	case "local":
		return text
	}
	var names []string
	for _, name := range strings.Split(text, ",") {
		name = strings.TrimSpace(name)
		if name == "local" {
			name = west
		}
		names = append(names, name)
	}
	return strings.Join(names, ",")
}

// oracleHostnames is the rule of 4.5 for hostnames.
func oracleHostnames(parts []*oraclePart, memory oldHave) {
	users := map[string]map[string]bool{}
	waiting := false
	for _, p := range parts {
		if p.age == "withdrawn" {
			continue
		}
		waiting = waiting || !p.Listed && p.age == "fresh"
		for _, e := range p.eps {
			if users[e.host] == nil {
				users[e.host] = map[string]bool{}
			}
			users[e.host][p.Name] = true
		}
	}
	for _, p := range parts {
		if !p.Listed || p.Local {
			continue
		}
		for i := range p.eps {
			e := &p.eps[i]
			if len(users[e.host]) > 1 || waiting && memory.host(p.Name, e.addr) != e.host {
				e.host = ""
			}
		}
	}
}

// oracleWrite is what is in the objects (4.6).
func oracleWrite(svc *model.Service, parts []*oraclePart, memory oldHave) wanted {
	out := wanted{states: map[string]State{}}
	var published []oldEndpoint
	seen := map[string]bool{}
	backs, matched, unmatched, ready, stale := 0, false, 0, false, false
	for _, p := range parts {
		backs += p.backs
		unmatched += p.unmatched
		matched = matched || len(p.eps) > 0
		stale = stale || p.age != "fresh"
		had, park := memory.has(p.Name, false), memory.has(p.Name, true)
		if !p.Listed && had && p.age == "fresh" {
			p.state = StateServing
		}
		if !p.Listed && p.age != "withdrawn" && had && !park && p.state == StateServing {
			for _, e := range p.eps {
				seen[e.addr] = true
				ready = ready || e.ready
				published = append(published, e)
				out.published = append(out.published, e.slice())
			}
			continue
		}
		if !p.Listed && p.age != "withdrawn" && !had && p.state != StateServing {
			for _, e := range p.eps {
				out.parked = append(out.parked, e.slice())
			}
			continue
		}
		for _, e := range p.eps {
			e.hints = oracleHints(svc, e)
			switch {
			case p.state == StateServing && (seen[e.addr] || p.onlyReady && !e.ready):
			case p.state == StateServing:
				seen[e.addr] = true
				ready = ready || e.ready
				published = append(published, e)
				out.published = append(out.published, e.slice())
			case p.age != "withdrawn" && !p.Local && !p.InContact:
				out.parked = append(out.parked, e.slice())
			}
		}
	}
	for _, p := range parts {
		out.states[p.Name] = p.state
	}
	out.endpoints = memory.endpoints
	if !svc.Selecting {
		out.endpoints = oracleEndpoints(svc, published)
	}
	switch {
	case backs == 0:
		out.reason = ReasonNoBackingServices
	case !matched && unmatched > 0:
		out.reason = ReasonNoMatchingPort
	case !ready:
		out.reason = ReasonNoReadyEndpoints
	case stale:
		out.reason = ReasonPartlyStale
	default:
		out.reason = ReasonInSync
	}
	return out
}

func oracleHints(svc *model.Service, e oldEndpoint) string {
	zone, node := "", ""
	switch svc.TrafficDistribution {
	case "PreferSameNode":
		if e.local() {
			node = e.node
		}
		zone = e.zone
	case "PreferClose", "PreferSameZone":
		zone = e.zone
	}
	if !e.ready {
		return "/"
	}
	return zone + "/" + node
}

func oracleEndpoints(svc *model.Service, published []oldEndpoint) []string {
	v6 := len(svc.Families) > 0 && svc.Families[0] == 6
	seen := map[string]bool{}
	lines := []string{"object"}
	for _, e := range published {
		if !e.terminating && strings.Contains(e.addr, ":") == v6 && !seen[e.addr] {
			seen[e.addr] = true
			lines = append(lines, e.old())
		}
	}
	sort.Strings(lines)
	return lines
}

// oldHave is what a server has for a Service, read by the oracle.
type oldHave struct {
	objects    []*discoveryv1.EndpointSlice
	old        *corev1.Endpoints
	applied    string // "?": nothing
	preference string
	since      map[string]time.Time
	endpoints  []string
	serving    string
}

// oracleReads reads a server.
func (a *fakeAPI) oracleReads(keys []model.Key) map[string]oldHave {
	out := map[string]oldHave{}
	for _, k := range keys {
		h := oldHave{applied: "?", old: a.endpoints[k.Namespace+"/"+k.Name], since: map[string]time.Time{}}
		for _, s := range a.slices {
			if s.Namespace == k.Namespace && (s.Labels["kubernetes.io/service-name"] == k.Name || s.Labels["federation.overland.dev/parked"] == k.Name) {
				h.objects = append(h.objects, s)
				if text, ok := s.Annotations["federation.overland.dev/applied"]; ok {
					h.applied = canonicalOf(text)
				}
				if text, ok := s.Annotations["federation.overland.dev/applied-preference"]; ok {
					h.preference = text
				}
				if text, ok := s.Annotations["federation.overland.dev/serving"]; ok {
					h.serving = text
				}
				for _, part := range strings.Split(s.Annotations["federation.overland.dev/sufficient-since"], ",") {
					if name, at, ok := strings.Cut(part, "="); ok {
						h.since[name], _ = time.Parse(time.RFC3339, at)
					}
				}
			}
		}
		h.endpoints = linesOfEndpoints(h.old)
		out[k.String()] = h
	}
	return out
}

// canonicalOf is the expression of the generator with a canonical text.
func canonicalOf(text string) string {
	for _, e := range expressions() {
		if e.means != nil && canonicalText(e.text) == text {
			return e.text
		}
	}
	return "?"
}

func linesOfEndpoints(e *corev1.Endpoints) []string {
	if e == nil {
		return nil
	}
	lines := []string{"object"}
	for _, s := range e.Subsets {
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, fmt.Sprintf("%s/%s/%d/%s", p.Name, p.Protocol, p.Port, value(p.AppProtocol)))
		}
		sort.Strings(ports)
		for i, list := range [][]corev1.EndpointAddress{s.Addresses, s.NotReadyAddresses} {
			for _, a := range list {
				t := value(a.TargetRef)
				lines = append(lines, fmt.Sprintf("%s [%s] %v host=%s node=%s target=%s/%s/%s/%s", a.IP, strings.Join(ports, ","), i == 0,
					a.Hostname, value(a.NodeName), t.Kind, t.Namespace, t.Name, t.UID))
			}
		}
	}
	sort.Strings(lines)
	return lines
}

// endpointsOf are the endpoints of the published or the parked slices.
func (h oldHave) all(parked bool) []oldEndpoint {
	var out []oldEndpoint
	for _, s := range h.objects {
		if (s.Labels["federation.overland.dev/parked"] != "") != parked {
			continue
		}
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, fmt.Sprintf("%s/%s/%d/%s", *p.Name, *p.Protocol, *p.Port, value(p.AppProtocol)))
		}
		sort.Strings(ports)
		for _, e := range s.Endpoints {
			t := value(e.TargetRef)
			zone, node := "", ""
			if e.Hints != nil {
				for _, z := range e.Hints.ForZones {
					zone += z.Name
				}
				for _, n := range e.Hints.ForNodes {
					node += n.Name
				}
			}
			out = append(out, oldEndpoint{
				cluster: s.Labels["federation.overland.dev/source-cluster"], addr: e.Addresses[0], ports: strings.Join(ports, ","),
				ready: *e.Conditions.Ready, serving: *e.Conditions.Serving, terminating: *e.Conditions.Terminating,
				host: value(e.Hostname), zone: value(e.Zone), node: value(e.NodeName),
				kind: t.Kind, ns: t.Namespace, name: t.Name, uid: string(t.UID), hints: zone + "/" + node,
			})
		}
	}
	return out
}

func (h oldHave) lines(parked bool) []string {
	var out []string
	for _, e := range h.all(parked) {
		out = append(out, e.slice())
	}
	sort.Strings(out)
	return out
}

// of is what is read back of a cluster: published, then parked, with what only the
// Endpoints object says.
func (h oldHave) of(cluster string) (out []oldEndpoint) {
	for _, e := range slices.Concat(h.all(false), h.all(true)) {
		again := func(o oldEndpoint) bool { return o.addr == e.addr }
		if e.cluster == cluster && !slices.ContainsFunc(out, again) {
			out = append(out, h.referenced(e))
		}
	}
	return out
}

func (h oldHave) referenced(e oldEndpoint) oldEndpoint {
	if h.old == nil || e.local() {
		return e
	}
	for _, s := range h.old.Subsets {
		for _, a := range slices.Concat(s.Addresses, s.NotReadyAddresses) {
			if a.IP == e.addr {
				t := value(a.TargetRef)
				name, its := strings.CutPrefix(t.Name, e.cluster+"/")
				if t.Name != "" && !its {
					continue
				}
				e.node, e.kind, e.ns, e.name, e.uid = value(a.NodeName), t.Kind, t.Namespace, name, string(t.UID)
			}
		}
	}
	return e
}

func (h oldHave) has(cluster string, parked bool) bool {
	return slices.ContainsFunc(h.all(parked), func(e oldEndpoint) bool { return e.cluster == cluster })
}

func (h oldHave) host(cluster, addr string) string {
	for _, e := range slices.Concat(h.all(false), h.all(true)) {
		if e.cluster == cluster && e.addr == addr && e.host != "" {
			return e.host
		}
	}
	return ""
}
