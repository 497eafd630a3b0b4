package api

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/overland-net/overland/pkg/api/v1alpha1"
)

func TestEveryManifestIsTakenByAnAPIServer(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"namespace", "base", "remote", "aks"} {
		out := kubectl(t, "kustomize", manifests(dir))
		again := api.kubectl(t.Context(), out, "apply", "--dry-run=server", "--validate=strict", "-f", "-")
		if again.err != nil || strings.Contains(again.complaint, "Warning: spec") {
			t.Errorf("manifests/%s: %s", dir, again)
		}
	}
}

func TestAnOverlayGivesTheClusterItsName(t *testing.T) {
	t.Parallel()
	base, err := filepath.Abs(manifests("base"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	above, err := filepath.Rel(dir, base)
	if err != nil {
		t.Fatal(err)
	}
	// What manifests/base/kustomization.yaml tells users to write.
	for name, text := range map[string]string{
		"config.yaml": "clusterName: west\n",
		"kustomization.yaml": "resources: [" + above + "]\nconfigMapGenerator:\n" +
			"- {name: overland-config, namespace: overland-system, behavior: replace, files: [config.yaml]}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := kubectl(t, "kustomize", dir)
	if !strings.Contains(out, "clusterName: west") || strings.Contains(out, `clusterName: ""`) {
		t.Errorf("the overlay does not set the name:\n%s", out)
	}
}

func TestKubectlShowsRemoteClusters(t *testing.T) {
	t.Parallel()
	c := remoteClusters(t)
	r := &v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: "columns"}}
	r.Spec.Credentials.SecretRef.Name = "columns"
	r, err := c.Create(t.Context(), r, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := kubectl(t, "get", "rcl", "columns"); !regexp.MustCompile(`^NAME +STATE +ENDPOINTS +AGE\ncolumns +\d+s\n$`).MatchString(got) {
		t.Errorf("a new one is shown as\n%s", got)
	}
	r.Status = fullStatus()
	if _, err := c.UpdateStatus(t.Context(), r, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := kubectl(t, "get", "rcl", "columns"); !regexp.MustCompile(`^NAME +STATE +ENDPOINTS +AGE\ncolumns +InSync +12345 +\d+s\n$`).MatchString(got) {
		t.Errorf("it is shown as\n%s", got)
	}
	wide := regexp.MustCompile(`^NAME +STATE +ENDPOINTS +AGE +REASON +LAST CONTACT +VERSION\ncolumns +InSync +12345 +\d+s +InSync +60m +v1\.37\.1\n$`)
	if got := kubectl(t, "get", "rcl", "columns", "-o", "wide"); !wide.MatchString(got) {
		t.Errorf("-o wide shows\n%s", got)
	}
	for field, want := range map[string]string{
		"remotecluster":                  "links a cluster",
		"rcl.spec.credentials.secretRef": "a Secret in the agent's namespace",
		"rcl.spec.podCIDRs":              "address ranges that the cluster's pods may claim",
		"rcl.status.rejectedEndpoints":   "by",
	} {
		if got := kubectl(t, "explain", field); !strings.Contains(got, want) {
			t.Errorf("kubectl explain %s does not say %q:\n%s", field, want, got)
		}
	}
}

// A rule is verb and resource, with the API group if it is not the core, and
// the names of objects that it is limited to.
var (
	agentRules = []string{
		"get list watch namespaces", "get list watch patch nodes", "get list watch pods",
		"get list watch networkpolicies.networking.k8s.io",
		"get list watch remoteclusters.overland.dev",
		"update patch remoteclusters.overland.dev/status",
		"create events.events.k8s.io",
		"get list watch services", "patch services/status",
		"get list watch create update delete endpointslices.discovery.k8s.io",
		"get list watch create update delete endpoints",
	}
	agentHomeRules = []string{
		"get list watch secrets", "create leases.coordination.k8s.io",
		"get update leases.coordination.k8s.io [overland-leader]", "patch namespaces [overland-system]",
		"create configmaps", "get update configmaps [overland-services]",
	}
	remoteRules = []string{
		"get list watch namespaces", "get list watch nodes", "get list watch pods",
		"get list watch services", "get list watch endpointslices.discovery.k8s.io",
	}
)

// everyone tells whether Kubernetes gives the rule to every service account: to
// ask about itself, and the certificates of public trust bundles.
func everyone(rule string) bool {
	switch rule {
	case "create selfsubjectaccessreviews.authorization.k8s.io", "create selfsubjectrulesreviews.authorization.k8s.io",
		"create selfsubjectreviews.authentication.k8s.io", "get list watch clustertrustbundles.certificates.k8s.io":
		return true
	}
	return false
}

// rights are what an account of overland-system may do in a namespace: what
// `kubectl auth can-i --list` asks for.
func rights(t *testing.T, account, namespace string) (rules []string, urls bool) {
	t.Helper()
	out := kubectl(t, "auth", "can-i", "--list", "--no-headers", "-n", namespace, "--as", "system:serviceaccount:overland-system:"+account)
	line := regexp.MustCompile(`^(\S*) +\[(.*?)\] +\[(.*?)\] +\[(.*?)\]$`)
	for text := range strings.Lines(out) {
		m := line.FindStringSubmatch(strings.TrimRight(text, "\n"))
		switch {
		case m == nil:
			t.Fatalf("not understood: %q", text)
		case m[1] == "":
			urls = true // of the API server itself: versions and discovery
			if m[4] != "get" {
				t.Errorf("%s may %s %s", account, m[4], m[2])
			}
		default:
			rule := m[4] + " " + m[1]
			if m[3] != "" {
				rule += " [" + m[3] + "]"
			}
			if !everyone(rule) {
				rules = append(rules, rule)
			}
		}
	}
	return rules, urls
}

func TestAccountsMayDoWhatIsUsedAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		account, namespace string
		want               []string
	}{
		{"overland-remote", "overland-system", remoteRules},
		{"overland-remote", "kube-system", remoteRules},
		{"overland-agent", "overland-system", append(slices.Clone(agentRules), agentHomeRules...)},
		{"overland-agent", "kube-system", agentRules},
		{"overland-agent", "default", agentRules},
	} {
		got, urls := rights(t, tt.account, tt.namespace)
		slices.Sort(got)
		slices.Sort(tt.want)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s in %s may\n\t%s\nwant\n\t%s", tt.account, tt.namespace, strings.Join(got, "\n\t"), strings.Join(tt.want, "\n\t"))
		}
		if !urls {
			t.Errorf("%s may not ask for the API server's version", tt.account)
		}
	}
}

func TestNoAccountMayDoWhatIsNotItsBusiness(t *testing.T) {
	t.Parallel()
	const leases, overland = "coordination.k8s.io", "overland.dev"
	for _, tt := range []struct {
		account, namespace    string
		verb, group, resource string
		subresource, name     string
		allowed               bool
	}{
		{account: "overland-remote", namespace: "overland-system", verb: "get", resource: "secrets"},
		{account: "overland-remote", namespace: "kube-system", verb: "list", resource: "secrets"},
		{account: "overland-remote", namespace: "overland-system", verb: "get", resource: "configmaps"},
		{account: "overland-remote", namespace: "default", verb: "get", resource: "pods", allowed: true},
		{account: "overland-remote", namespace: "default", verb: "get", resource: "pods", subresource: "log"},
		{account: "overland-remote", namespace: "default", verb: "create", resource: "pods", subresource: "exec"},
		{account: "overland-remote", verb: "get", resource: "nodes", subresource: "proxy"},
		{account: "overland-remote", verb: "get", group: overland, resource: "remoteclusters"},
		{account: "overland-remote", namespace: "overland-system", verb: "patch", resource: "namespaces", name: "overland-system"},
		{account: "overland-remote", namespace: "default", verb: "list", resource: "services", allowed: true},
		{account: "overland-remote", namespace: "default", verb: "patch", resource: "services", subresource: "status"},
		{account: "overland-remote", namespace: "default", verb: "watch", group: "discovery.k8s.io", resource: "endpointslices", allowed: true},
		{account: "overland-remote", namespace: "default", verb: "create", group: "discovery.k8s.io", resource: "endpointslices"},
		{account: "overland-remote", namespace: "default", verb: "get", resource: "endpoints"},
		{account: "overland-agent", namespace: "overland-system", verb: "watch", resource: "secrets", allowed: true},
		{account: "overland-agent", verb: "list", resource: "secrets"},
		{account: "overland-agent", namespace: "kube-system", verb: "get", resource: "secrets"},
		{account: "overland-agent", namespace: "overland-system", verb: "create", resource: "secrets"},
		{account: "overland-agent", verb: "update", group: overland, resource: "remoteclusters", subresource: "status", allowed: true},
		{account: "overland-agent", verb: "update", group: overland, resource: "remoteclusters"},
		{account: "overland-agent", verb: "create", group: overland, resource: "remoteclusters"},
		{account: "overland-agent", namespace: "overland-system", verb: "update", group: leases, resource: "leases", name: "overland-leader", allowed: true},
		{account: "overland-agent", namespace: "overland-system", verb: "update", group: leases, resource: "leases", name: "another"},
		{account: "overland-agent", namespace: "kube-system", verb: "create", group: leases, resource: "leases"},
		{account: "overland-agent", namespace: "overland-system", verb: "patch", resource: "namespaces", name: "overland-system", allowed: true},
		{account: "overland-agent", namespace: "kube-system", verb: "patch", resource: "namespaces", name: "kube-system"},
		// What of a node is a matter of admission.
		{account: "overland-agent", verb: "patch", resource: "nodes", allowed: true},
		{account: "overland-agent", verb: "update", resource: "nodes"},
		{account: "overland-agent", namespace: "default", verb: "patch", resource: "services"},
		{account: "overland-agent", namespace: "default", verb: "patch", resource: "services", subresource: "status", allowed: true},
		{account: "overland-agent", namespace: "default", verb: "delete", group: "discovery.k8s.io", resource: "endpointslices", allowed: true},
		{account: "overland-agent", namespace: "default", verb: "update", resource: "endpoints", allowed: true},
		{account: "overland-agent", namespace: "default", verb: "delete", resource: "services"},
		{account: "overland-agent", namespace: "overland-system", verb: "create", resource: "pods", subresource: "exec"},
	} {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User:   "system:serviceaccount:overland-system:" + tt.account,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:overland-system", "system:authenticated"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: tt.namespace, Verb: tt.verb, Group: tt.group, Resource: tt.resource, Subresource: tt.subresource, Name: tt.name,
			},
		}}
		got, err := kube(t).AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got.Status.Allowed != tt.allowed {
			t.Errorf("%s: allowed is %t: %+v", tt.account, got.Status.Allowed, *review.Spec.ResourceAttributes)
		}
	}
}

func kube(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	config := rest.CopyConfig(api.config)
	config.WarningHandler = rest.NoWarnings{} // that Endpoints are old is known
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestNoRoleHasAWildcard(t *testing.T) {
	t.Parallel()
	client, rules := kube(t), map[string][]rbacv1.PolicyRule{}
	ours := metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=overland"}
	clusterRoles, err := client.RbacV1().ClusterRoles().List(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range clusterRoles.Items {
		rules["ClusterRole "+r.Name] = r.Rules
	}
	roles, err := client.RbacV1().Roles("").List(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range roles.Items {
		rules["Role "+r.Namespace+"/"+r.Name] = r.Rules
	}
	if len(rules) != 3 {
		t.Errorf("3 roles expected, got %d", len(rules))
	}
	for name, rules := range rules {
		for _, r := range rules {
			for _, text := range slices.Concat(r.Verbs, r.APIGroups, r.Resources, r.ResourceNames, r.NonResourceURLs) {
				if strings.Contains(text, "*") {
					t.Errorf("%s has %q", name, text)
				}
			}
		}
	}
}
