package store

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/overland-net/overland/pkg/model"
)

const (
	// maxName is what names of objects are well below: API servers allow 253.
	maxName = 1 << 10
	// maxText is what an object cannot be larger than in etcd, about.
	maxText = 2 << 20
	// maxClusterName is that of a DNS label (semantics 1.1).
	maxClusterName = 63
)

// validCluster tells whether a cluster of that name can have a file: it is a DNS
// label, and so no path.
func validCluster(name string) bool {
	if name == "" || len(name) > maxClusterName || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// check tells what of a change cannot be true of the cluster whose file it is in.
// It is asked before a change is written and after it is read.
func check(cluster string, c model.Change) error {
	if err := checkKey(cluster, c.Key); err != nil {
		return err
	}
	if c.Value == nil {
		return nil
	}
	if c.Value.FactKey() != c.Key {
		return fmt.Errorf("%s: the fact is of %s", c.Key, c.Value.FactKey())
	}
	kind := c.Key.Kind
	var fits bool
	var err error
	switch f := c.Value.(type) {
	case *model.Endpoint:
		fits, err = kind == model.KindPod || kind == model.KindNode, checkEndpoint(f)
	case *model.Namespace:
		fits, err = kind == model.KindNamespace, checkTexts(f.Labels.Encoded(), f.PeerScope, f.ClusterName)
	case *model.Policy:
		fits, err = kind == model.KindPolicy, checkPolicy(f)
	case *model.Cluster:
		fits = true // by its key
		err = errors.Join(checkTexts(f.Labels.Encoded()), checkPrefixes(f.PodCIDRs), checkPrefixes(f.NodeCIDRs))
	}
	if !fits {
		return fmt.Errorf("%s: a fact of type %T", c.Key, c.Value)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.Key, err)
	}
	return nil
}

func checkKey(cluster string, k model.Key) error {
	namespaced := false
	switch k.Kind {
	case model.KindCluster: // also of other clusters, in the file of the local one
		if !validCluster(k.Cluster) || k.Namespace != "" || k.Name != "" {
			return fmt.Errorf("%q is not the key of a cluster", k)
		}
		return nil
	case model.KindPod, model.KindPolicy:
		namespaced = true
	case model.KindNode, model.KindNamespace:
	default:
		return fmt.Errorf("kind %d is unknown", k.Kind)
	}
	switch {
	case k.Cluster != cluster:
		return fmt.Errorf("%q is not of cluster %s", k, cluster)
	case namespaced != (k.Namespace != ""), k.Name == "", len(k.Name) > maxName, len(k.Namespace) > maxName:
		return fmt.Errorf("a %s with a namespace of %d bytes and a name of %d", k.Kind, len(k.Namespace), len(k.Name))
	}
	return nil
}

func checkEndpoint(e *model.Endpoint) error {
	if len(e.Addresses) == 0 && e.Key.Kind != model.KindPod { // a pod may be starting
		return errors.New("a node without an address")
	}
	for _, a := range e.Addresses {
		if err := checkAddress(a); err != nil {
			return err
		}
	}
	for _, p := range e.Ports {
		if len(p.Name) > maxName {
			return fmt.Errorf("a port's name of %d bytes", len(p.Name))
		}
	}
	if len(e.ServiceAccount) > maxName || len(e.Node) > maxName {
		return fmt.Errorf("a service account or node of more than %d bytes", maxName)
	}
	return checkTexts(e.Labels.Encoded())
}

// checkPolicy leaves ranges mapped into IPv6 alone: an author may write them.
func checkPolicy(p *model.Policy) error {
	for _, rules := range [][]model.PolicyRule{p.IngressRules, p.EgressRules} {
		for _, r := range rules {
			for _, peer := range r.Peers {
				if err := checkPrefixes(peer.Except); err != nil {
					return err
				}
			}
		}
	}
	return checkTexts(p.PeerScope)
}

func checkTexts(all ...string) error {
	for _, s := range all {
		if len(s) > maxText {
			return fmt.Errorf("a text of %d bytes, more than %d", len(s), maxText)
		}
	}
	return nil
}

func checkAddress(a netip.Addr) error {
	if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
		return fmt.Errorf("%q is not an address that an endpoint can have", a)
	}
	return nil
}

func checkPrefixes(all []netip.Prefix) error {
	for _, p := range all {
		if !p.IsValid() {
			return fmt.Errorf("%q is not a range of addresses", p)
		}
	}
	return nil
}
