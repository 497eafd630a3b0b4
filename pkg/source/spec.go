package source

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/overland-net/overland/pkg/api/v1alpha1"
	"github.com/overland-net/overland/pkg/model"
)

// plan is what is to be done for one RemoteCluster: a function of the object and
// its Secret.
type plan struct {
	fact *model.Cluster
	// generation is the RemoteCluster's.
	generation int64
	// refused says why nothing is done; nil if something is.
	refused *Failure
	// waiting: it is not known yet whether there is a Secret.
	waiting   bool
	suspended bool
	// connection is all that, when changed, needs a new connection.
	connection  connection
	credentials *Credentials
	selector    labels.Selector
	namespaces  []string
}

// connection is compared with ==.
type connection struct {
	kubeconfig        [sha256.Size]byte
	namespaces        string
	selector          string
	limit, labelBytes int
	staleAfter        time.Duration
}

// secrets answers for the agent's namespace.
type secrets struct {
	namespace string
	// listed: those that are not in byName do not exist. failed says why they
	// could not be listed.
	listed bool
	failed *Failure
	byName map[string]*corev1.Secret
}

// planOf works out what to do. before is the last fact of the same object, nil if
// there was none.
func planOf(rc *v1alpha1.RemoteCluster, s secrets, before *model.Cluster) plan {
	rc = rc.DeepCopy()
	rc.Default()
	p := plan{fact: factOf(rc), generation: rc.Generation, suspended: rc.Spec.Suspend}
	if errs := v1alpha1.ValidateName(rc.Name, field.NewPath("metadata", "name")); len(errs) > 0 {
		p.refused = failure(model.ReasonInvalidName, "%s: remove it, and make it anew under another name", words(errs.ToAggregate()))
		return p
	}
	if errs := rc.Validate(); len(errs) > 0 {
		p.refused = failure(model.ReasonInvalidSpec, "%s: correct it", words(errs.ToAggregate()))
		if before != nil {
			p.fact = before
		}
		return p
	}
	p.imports(rc.Spec.Import)
	p.connection.limit, p.connection.labelBytes = int(rc.Spec.Limits.Endpoints), int(rc.Spec.Limits.LabelBytes)
	p.connection.staleAfter = p.fact.StaleAfter
	if !p.suspended {
		p.authenticate(rc.Spec.Credentials.SecretRef, s)
	}
	return p
}

func (p *plan) imports(i *v1alpha1.Import) {
	if i == nil {
		return
	}
	if i.NamespaceSelector != nil {
		// Validate has found it in order.
		if s, err := metav1.LabelSelectorAsSelector(i.NamespaceSelector); err == nil && !s.Empty() {
			p.selector, p.connection.selector = s, s.String()
		}
	}
	p.namespaces, p.connection.namespaces = i.Namespaces, strings.Join(i.Namespaces, " ")
}

func (p *plan) authenticate(ref v1alpha1.SecretRef, s secrets) {
	secret := s.byName[ref.Name]
	switch {
	case secret == nil && s.failed != nil:
		p.refused = failure(model.ReasonSecretNotFound, "Secret %s/%s cannot be read: %s", s.namespace, ref.Name, s.failed.Message)
		return
	case secret == nil && !s.listed:
		p.waiting = true
		return
	case secret == nil:
		p.refused = failure(model.ReasonSecretNotFound, "there is no Secret %s/%s: make it, as overland connect does", s.namespace, ref.Name)
		return
	}
	data, ok := secret.Data[ref.Key]
	if !ok {
		p.refused = failure(model.ReasonSecretNotFound, "Secret %s/%s has no key %q: put the kubeconfig there, or name another key in spec.credentials.secretRef.key", s.namespace, ref.Name, ref.Key)
		return
	}
	credentials, refused := ParseKubeconfig(data)
	if refused != nil {
		p.refused = failure(refused.Reason, "Secret %s/%s: %s", s.namespace, ref.Name, refused.Message)
		return
	}
	p.credentials, p.connection.kubeconfig = credentials, sha256.Sum256(data)
}

// factOf is the Cluster fact of a RemoteCluster with its defaults.
func factOf(rc *v1alpha1.RemoteCluster) *model.Cluster {
	return &model.Cluster{
		Name:          rc.Name,
		UID:           model.ParseUID(string(rc.UID)),
		Created:       rc.CreationTimestamp.Unix(),
		Labels:        model.NewLabels(rc.Spec.LabelMap()),
		PodCIDRs:      ranges(rc.Spec.PodCIDRs),
		NodeCIDRs:     ranges(rc.Spec.NodeCIDRs),
		Suspended:     rc.Spec.Suspend,
		StaleAfter:    max(rc.Spec.Identities.StaleAfter.Duration, 0),
		EndpointLimit: int(rc.Spec.Limits.Endpoints),

		SpareAfter:         max(rc.Spec.Services.SpareAfter.Duration, 0),
		ServicesStaleAfter: max(rc.Spec.Services.StaleAfter.Duration, 0),
		ExternalAddresses:  rc.Spec.Services.AllowExternalAddresses,
	}
}

// ranges reads address ranges. None means that any address may be claimed: hence
// one that cannot be read becomes one that holds nothing a cluster can have.
func ranges(texts []string) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, text := range texts {
		p, err := v1alpha1.ParseCIDR(text)
		if err != nil {
			p = netip.PrefixFrom(netip.IPv4Unspecified(), 32)
		}
		prefixes = append(prefixes, p)
	}
	return prefixes
}

// config is what a Cluster is told.
func (p *plan) config(m *MeshConfig, accept func(uid string) verdict) *config {
	return &config{
		name: p.fact.Name, connect: p.credentials.Config, expire: p.credentials.Expire, issued: p.credentials.Issued,
		namespaces: p.namespaces, selector: p.selector,
		limit: p.connection.limit, labelBytes: p.connection.labelBytes, staleAfter: p.connection.staleAfter,
		agentNamespace: m.Namespace, timing: m.Timing, accept: accept,
	}
}

// sameFact tells whether two Cluster facts say the same.
func sameFact(a, b *model.Cluster) bool {
	if a == nil || b == nil {
		return a == b
	}
	return fmt.Sprintf("%v", *a) == fmt.Sprintf("%v", *b) && a.Labels == b.Labels
}
