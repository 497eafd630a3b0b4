package v1alpha1

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The bounds of the schema, for what it let pass.
const (
	maxClusterLabels = 32
	maxCIDRs         = 256
	maxNamespaces    = 256
	maxEndpoints     = 5_000_000
	minLabelBytes    = 1 << 10
	maxLabelBytes    = 1 << 20
)

// Validate finds what is wrong with the object, each finding with the field and
// what was expected there. It repeats the schema, for objects that an older
// schema let pass, and adds what a schema cannot say. Defaults must have been
// filled in.
func (r *RemoteCluster) Validate() field.ErrorList {
	spec, path := &r.Spec, field.NewPath("spec")
	errs := ValidateName(r.Name, field.NewPath("metadata", "name"))
	errs = append(errs, validateSecretRef(spec.Credentials.SecretRef, path.Child("credentials", "secretRef"))...)
	errs = append(errs, validateClusterLabels(spec.ClusterLabels, path.Child("clusterLabels"))...)
	errs = append(errs, validateCIDRs(spec.PodCIDRs, path.Child("podCIDRs"))...)
	errs = append(errs, validateCIDRs(spec.NodeCIDRs, path.Child("nodeCIDRs"))...)
	errs = append(errs, validateImport(spec.Import, path.Child("import"))...)
	errs = append(errs, validateDuration(spec.Identities.StaleAfter, path.Child("identities", "staleAfter"))...)
	services := path.Child("services")
	if spec.Services.SpareAfter != nil {
		errs = append(errs, validateDuration(*spec.Services.SpareAfter, services.Child("spareAfter"))...)
	}
	errs = append(errs, validateDuration(spec.Services.StaleAfter, services.Child("staleAfter"))...)
	limits := path.Child("limits")
	errs = append(errs, validateBetween(spec.Limits.Endpoints, 1, maxEndpoints, limits.Child("endpoints"))...)
	return append(errs, validateBetween(spec.Limits.LabelBytes, minLabelBytes, maxLabelBytes, limits.Child("labelBytes"))...)
}

// ValidateName finds what is wrong with the name of a cluster, local or remote
// (semantics 1.1).
func ValidateName(name string, path *field.Path) field.ErrorList {
	if len(validation.IsDNS1123Label(name)) > 0 {
		return field.ErrorList{field.Invalid(path, name,
			"a cluster's name: expected a DNS label of at most 63 characters (a-z, 0-9, -), a letter or digit first and last")}
	}
	if name == "local" || name == "any" {
		return field.ErrorList{field.Invalid(path, name, "a cluster's name: 'local' and 'any' are reserved")}
	}
	return nil
}

func validateSecretRef(ref SecretRef, path *field.Path) (errs field.ErrorList) {
	if len(validation.IsDNS1123Subdomain(ref.Name)) > 0 {
		errs = append(errs, field.Invalid(path.Child("name"), ref.Name, "expected the name of a Secret in the agent's namespace"))
	}
	if len(validation.IsConfigMapKey(ref.Key)) > 0 {
		errs = append(errs, field.Invalid(path.Child("key"), ref.Key, "expected a key of that Secret: letters, digits, '-', '_' and '.'"))
	}
	return errs
}

func validateClusterLabels(labels map[string]LabelValue, path *field.Path) (errs field.ErrorList) {
	if len(labels) > maxClusterLabels {
		errs = append(errs, field.TooMany(path, len(labels), maxClusterLabels))
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		value := labels[key]
		if strings.Contains(key, "/") || len(validation.IsQualifiedName(key)) > 0 {
			errs = append(errs, field.Invalid(path.Key(key), key,
				"keys are label names without a prefix: expected at most 63 letters, digits, '-', '_' and '.', a letter or digit first and last, no '/'"))
		}
		if len(validation.IsValidLabelValue(string(value))) > 0 {
			errs = append(errs, field.Invalid(path.Key(key), string(value),
				"expected the value of a label: at most 63 letters, digits, '-', '_' and '.', a letter or digit first and last; or empty"))
		}
	}
	return errs
}

func validateCIDRs(ranges []string, path *field.Path) (errs field.ErrorList) {
	if len(ranges) > maxCIDRs {
		errs = append(errs, field.TooMany(path, len(ranges), maxCIDRs))
	}
	for i, text := range ranges {
		if _, err := ParseCIDR(text); err != nil {
			errs = append(errs, field.Invalid(path.Index(i), text, err.Error()))
		}
	}
	return errs
}

// ParseCIDR reads an address range as RemoteClusters have them: IPv4, or IPv6
// without a zone and not mapped from IPv4, with no bit set beyond its length.
func ParseCIDR(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("expected an address range such as 10.1.0.0/16 or fd00:1::/48")
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("expected an IPv4 range in its own form, not mapped into IPv6")
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("has bits set beyond its length: expected %s", p.Masked())
	}
	return p, nil
}

func validateImport(i *Import, path *field.Path) (errs field.ErrorList) {
	if i == nil {
		return nil
	}
	if i.NamespaceSelector != nil && len(i.Namespaces) > 0 {
		errs = append(errs, field.Invalid(path, "both", "expected one of namespaces and namespaceSelector, not both"))
	}
	if len(i.Namespaces) > maxNamespaces {
		errs = append(errs, field.TooMany(path.Child("namespaces"), len(i.Namespaces), maxNamespaces))
	}
	for n, name := range i.Namespaces {
		if len(validation.IsDNS1123Label(name)) > 0 {
			errs = append(errs, field.Invalid(path.Child("namespaces").Index(n), name, "expected the name of a namespace"))
		}
	}
	return append(errs, metavalidation.ValidateLabelSelector(i.NamespaceSelector,
		metavalidation.LabelSelectorValidationOptions{}, path.Child("namespaceSelector"))...)
}

func validateDuration(d metav1.Duration, path *field.Path) field.ErrorList {
	if d.Duration < 0 {
		return field.ErrorList{field.Invalid(path, d.Duration.String(), "expected a duration of 0s or more, such as 90s or 24h")}
	}
	return nil
}

func validateBetween(value, low, high int32, path *field.Path) field.ErrorList {
	if value < low || value > high {
		return field.ErrorList{field.Invalid(path, value, fmt.Sprintf("expected a number from %d to %d", low, high))}
	}
	return nil
}
