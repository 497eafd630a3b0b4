package plan

import (
	"cmp"
	"maps"
	"slices"

	"github.com/overland-net/overland/pkg/model"
)

// mirroring is the controller that makes EndpointSlices of Endpoints objects.
const mirroring = "endpointslicemirroring-controller.k8s.io"

// findForeign finds what somebody else has put in the Service's place (semantics
// 4.6). A mirror of foreign Endpoints goes with them, so only they are named.
func (p *planner) findForeign() {
	if p.service.Selecting {
		return // they are the core controllers'
	}
	key := p.service.Key
	endpoints := p.foreignEndpoints()
	if endpoints {
		p.foreign = append(p.foreign, Foreign{Kind: "Endpoints", Name: key.Name, Command: removal("endpoints", key.Namespace, key.Name)})
	}
	place := p.world.Facts.namespaces[key.Namespace].places[p.local]
	of := place.of[key.Name]
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if endpoints && of[name].fact.ManagedBy == mirroring {
			continue
		}
		if len(p.foreign) == maxForeign {
			break
		}
		p.foreign = append(p.foreign, Foreign{Kind: "EndpointSlice", Name: name, Command: removal("endpointslice", key.Namespace, name)})
	}
	slices.SortStableFunc(p.foreign, func(a, b Foreign) int { return cmp.Compare(a.Kind, b.Kind) })
}

// foreignEndpoints tells whether the Endpoints object is somebody else's and is
// not to be taken over.
func (p *planner) foreignEndpoints() bool {
	e := p.have.Endpoints
	return p.have.EndpointsKnown && e != nil && !marked(e) && (!p.adopts() || !p.world.Endpoints)
}

// adopts tells whether the Service asks for its Endpoints object to be taken over.
func (p *planner) adopts() bool { return p.service.Annotations[model.AnnotationAdopt] == "true" }

func removal(resource, namespace, name string) string {
	return "kubectl delete " + resource + " --namespace " + namespace + " " + name
}
