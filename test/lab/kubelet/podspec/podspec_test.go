package podspec

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func ptr[T any](v T) *T { return &v }

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

func TestExpandReplacesKnownNamesOnly(t *testing.T) {
	vars := map[string]string{"A": "one", "B": "$(A)"}
	for in, want := range map[string]string{
		"":             "",
		"$(A)":         "one",
		"x$(A)y$(A)":   "xoney" + "one",
		"$(C)":         "$(C)",
		"$$(A)":        "$(A)",
		"$$$(A)":       "$one",
		"$(A":          "$(A",
		"$":            "$",
		"a$":           "a$",
		"$x":           "$x",
		"$(B)":         "$(A)", // values are not expanded again
		"100$ and $()": "100$ and $()",
	} {
		if got := Expand(in, vars); got != want {
			t.Errorf("Expand(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestExpandAllKeepsNil(t *testing.T) {
	if ExpandAll(nil, nil) != nil {
		t.Error("no command became an empty one, which would hide the image's")
	}
}

func testPod() *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "cart-0", UID: "u1",
			Labels: map[string]string{"b": "2", "a": `1"`}, Annotations: map[string]string{"x.y/z": "v"},
		},
		Spec: v1.PodSpec{
			NodeName: "node-1", ServiceAccountName: "sa",
			Containers: []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{
				Limits:   v1.ResourceList{"cpu": resource.MustParse("1500m")},
				Requests: v1.ResourceList{"memory": resource.MustParse("10Mi")},
			}}},
		},
	}
}

func TestFieldsOfTheDownwardAPI(t *testing.T) {
	at := Addresses{Pod: addrs("10.1.1.5", "fd00::5"), Host: addrs("10.1.0.4")}
	for path, want := range map[string]string{
		"metadata.name": "cart-0", "metadata.namespace": "shop", "metadata.uid": "u1",
		"metadata.labels": "a=\"1\\\"\"\nb=\"2\"", "metadata.labels['b']": "2", "metadata.annotations['x.y/z']": "v",
		"spec.nodeName": "node-1", "spec.serviceAccountName": "sa",
		"status.podIP": "10.1.1.5", "status.podIPs": "10.1.1.5,fd00::5", "status.hostIP": "10.1.0.4", "status.hostIPs": "10.1.0.4",
	} {
		got, err := Field(testPod(), path, at)
		if err != nil || got != want {
			t.Errorf("%s = %q, %v; want %q", path, got, err, want)
		}
	}
	if _, err := Field(testPod(), "spec.hostname", at); err == nil {
		t.Error("an unknown field is no error")
	}
}

func TestResourceFieldsRoundUpAndFallBackToTheNode(t *testing.T) {
	pod, node := testPod(), v1.ResourceList{"memory": resource.MustParse("64Gi")}
	for _, c := range []struct{ resource, divisor, want string }{
		{"limits.cpu", "", "2"},
		{"limits.cpu", "1m", "1500"},
		{"requests.memory", "1Mi", "10"},
		{"limits.memory", "1Gi", "64"},
		{"requests.cpu", "", "0"},
	} {
		ref := &v1.ResourceFieldSelector{ContainerName: "c", Resource: c.resource}
		if c.divisor != "" {
			ref.Divisor = resource.MustParse(c.divisor)
		}
		got, err := Resource(pod, nil, ref, node)
		if err != nil || got != c.want {
			t.Errorf("%s / %s = %q, %v; want %q", c.resource, c.divisor, got, err, c.want)
		}
	}
}

func sources() EnvSources {
	gone := func(kind, name string) error {
		return apierrors.NewNotFound(schema.GroupResource{Resource: kind}, name)
	}
	return EnvSources{
		Addresses: Addresses{Pod: addrs("10.1.1.5")},
		Services: []*v1.Service{
			{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}, Spec: v1.ServiceSpec{ClusterIP: "10.101.0.1", Ports: []v1.ServicePort{{Name: "https", Port: 443}}}},
			{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "my-db"}, Spec: v1.ServiceSpec{ClusterIP: "fd00::9", Ports: []v1.ServicePort{{Port: 53, Protocol: "UDP"}}}},
			{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "headless"}, Spec: v1.ServiceSpec{ClusterIP: "None", Ports: []v1.ServicePort{{Port: 1}}}},
			{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "far"}, Spec: v1.ServiceSpec{ClusterIP: "10.101.0.7", Ports: []v1.ServicePort{{Port: 1}}}},
		},
		ConfigMap: func(name string) (*v1.ConfigMap, error) {
			if name == "cm" {
				return &v1.ConfigMap{Data: map[string]string{"k": "v", "l": "w"}}, nil
			}
			return nil, gone("configmaps", name)
		},
		Secret: func(name string) (*v1.Secret, error) {
			if name == "s" {
				return &v1.Secret{Data: map[string][]byte{"p": []byte("secret")}}, nil
			}
			return nil, gone("secrets", name)
		},
	}
}

func TestEnvironmentFromAllSources(t *testing.T) {
	pod := testPod()
	pod.Spec.Containers[0].EnvFrom = []v1.EnvFromSource{
		{Prefix: "P_", ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "cm"}}},
		{SecretRef: &v1.SecretEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "none"}, Optional: ptr(true)}},
	}
	pod.Spec.Containers[0].Env = []v1.EnvVar{
		{Name: "IP", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
		{Name: "PW", ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "s"}, Key: "p"}}},
		{Name: "ABSENT", ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "cm"}, Key: "none", Optional: ptr(true)}}},
		{Name: "URL", Value: "http://$(IP):$(P_k)@$(KUBERNETES_SERVICE_HOST)/$(LATER)"},
		{Name: "LATER", Value: "x"},
	}
	env, err := Environment(pod, &pod.Spec.Containers[0], sources())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"P_k": "v", "P_l": "w", "IP": "10.1.1.5", "PW": "secret", "URL": "http://10.1.1.5:v@10.101.0.1/$(LATER)",
		"KUBERNETES_SERVICE_HOST": "10.101.0.1", "KUBERNETES_SERVICE_PORT": "443", "KUBERNETES_SERVICE_PORT_HTTPS": "443",
		"MY_DB_PORT": "udp://[fd00::9]:53", "MY_DB_PORT_53_UDP_ADDR": "fd00::9",
	} {
		if env[name] != want {
			t.Errorf("%s = %q, want %q", name, env[name], want)
		}
	}
	for _, name := range []string{"ABSENT", "HEADLESS_SERVICE_HOST", "FAR_SERVICE_HOST"} {
		if _, ok := env[name]; ok {
			t.Errorf("%s is set", name)
		}
	}
	pod.Spec.EnableServiceLinks = ptr(false)
	if env, err = Environment(pod, &pod.Spec.Containers[0], sources()); err != nil || env["MY_DB_PORT"] != "" || env["KUBERNETES_SERVICE_HOST"] == "" {
		t.Errorf("without service links: %v, %v", env, err)
	}
}

func TestEnvironmentWithoutARequiredObjectFails(t *testing.T) {
	pod := testPod()
	for _, source := range []*v1.EnvVarSource{
		{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "none"}, Key: "k"}},
		{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "s"}, Key: "none"}},
	} {
		pod.Spec.Containers[0].Env = []v1.EnvVar{{Name: "X", ValueFrom: source}}
		if _, err := Environment(pod, &pod.Spec.Containers[0], sources()); err == nil {
			t.Errorf("%v: no error", source)
		}
	}
}

func TestResolvConfByPolicy(t *testing.T) {
	const node = "nameserver 168.63.129.16\nsearch internal.example\noptions edns0\n"
	dns := addrs("10.101.0.10")
	cluster := "search shop.svc.cluster.local svc.cluster.local cluster.local internal.example\nnameserver 10.101.0.10\noptions ndots:5\n"
	own := "search internal.example\nnameserver 168.63.129.16\noptions edns0\n"
	for name, c := range map[string]struct {
		spec v1.PodSpec
		want string
	}{
		"cluster first":         {v1.PodSpec{DNSPolicy: v1.DNSClusterFirst}, cluster},
		"default":               {v1.PodSpec{DNSPolicy: v1.DNSDefault}, own},
		"host network":          {v1.PodSpec{DNSPolicy: v1.DNSClusterFirst, HostNetwork: true}, own},
		"host network, cluster": {v1.PodSpec{DNSPolicy: v1.DNSClusterFirstWithHostNet, HostNetwork: true}, cluster},
		"none": {v1.PodSpec{DNSPolicy: v1.DNSNone, DNSConfig: &v1.PodDNSConfig{
			Nameservers: []string{"1.1.1.1"}, Searches: []string{"a.b"}, Options: []v1.PodDNSConfigOption{{Name: "ndots", Value: ptr("2")}},
		}}, "search a.b\nnameserver 1.1.1.1\noptions ndots:2\n"},
		"option replaced": {
			v1.PodSpec{DNSPolicy: v1.DNSClusterFirst, DNSConfig: &v1.PodDNSConfig{Options: []v1.PodDNSConfigOption{{Name: "ndots", Value: ptr("1")}}}},
			strings.Replace(cluster, "ndots:5", "ndots:1", 1),
		},
	} {
		pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Spec: c.spec}
		if diff := cmp.Diff(c.want, ResolvConf(pod, "cluster.local", dns, node)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

func TestHostsFileNamesThePodWithItsDomain(t *testing.T) {
	pod := testPod()
	pod.Spec.Subdomain = "cart"
	pod.Spec.HostAliases = []v1.HostAlias{{IP: "1.2.3.4", Hostnames: []string{"a", "b"}}}
	got := HostsFile(pod, "cluster.local", addrs("10.1.1.5", "fd00::5"), "")
	for _, line := range []string{
		"127.0.0.1\tlocalhost", "10.1.1.5\tcart-0.cart.shop.svc.cluster.local\tcart-0",
		"fd00::5\tcart-0.cart.shop.svc.cluster.local\tcart-0", "1.2.3.4\ta\tb",
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no line %q in\n%s", line, got)
		}
	}
}

func TestHostnameIsCutToTheKernelsLimit(t *testing.T) {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: strings.Repeat("a", 62) + "-b"}}
	if host, _ := Hostname(pod, "cluster.local"); host != strings.Repeat("a", 62) {
		t.Errorf("hostname %q", host)
	}
}

func TestRestartsAfter(t *testing.T) {
	always, never := v1.ContainerRestartPolicyAlways, v1.ContainerRestartPolicyNever
	for name, c := range map[string]struct {
		pod  v1.RestartPolicy
		own  v1.Container
		code int
		want bool
	}{
		"always":                    {v1.RestartPolicyAlways, v1.Container{}, 0, true},
		"on failure, good":          {v1.RestartPolicyOnFailure, v1.Container{}, 0, false},
		"on failure, bad":           {v1.RestartPolicyOnFailure, v1.Container{}, 1, true},
		"never":                     {v1.RestartPolicyNever, v1.Container{}, 1, false},
		"sidecar of never":          {v1.RestartPolicyNever, v1.Container{RestartPolicy: &always}, 0, true},
		"own never of always":       {v1.RestartPolicyAlways, v1.Container{RestartPolicy: &never}, 1, false},
		"rule for a code":           {v1.RestartPolicyNever, v1.Container{RestartPolicyRules: rules(v1.ContainerRestartRuleOnExitCodesOpIn, 42)}, 42, true},
		"rule for another code":     {v1.RestartPolicyNever, v1.Container{RestartPolicyRules: rules(v1.ContainerRestartRuleOnExitCodesOpIn, 42)}, 1, false},
		"rule for all but one code": {v1.RestartPolicyNever, v1.Container{RestartPolicyRules: rules(v1.ContainerRestartRuleOnExitCodesOpNotIn, 42)}, 1, true},
	} {
		pod := &v1.Pod{Spec: v1.PodSpec{RestartPolicy: c.pod}}
		if got := RestartsAfter(pod, &c.own, c.code); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func rules(op v1.ContainerRestartRuleOnExitCodesOperator, code int32) []v1.ContainerRestartRule {
	return []v1.ContainerRestartRule{{
		Action:    v1.ContainerRestartRuleActionRestart,
		ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: op, Values: []int32{code}},
	}}
}

func TestSecurityOfTheContainerWins(t *testing.T) {
	pod := testPod()
	pod.Spec.SecurityContext = &v1.PodSecurityContext{RunAsUser: ptr(int64(1)), RunAsGroup: ptr(int64(2)), FSGroup: ptr(int64(3)), RunAsNonRoot: ptr(true)}
	c := &pod.Spec.Containers[0]
	c.SecurityContext = &v1.SecurityContext{
		RunAsUser: ptr(int64(9)), AllowPrivilegeEscalation: ptr(false),
		Capabilities: &v1.Capabilities{Drop: []v1.Capability{"ALL"}, Add: []v1.Capability{"NET_ADMIN"}},
	}
	got, err := Security(pod, c)
	if err != nil || *got.User != 9 || *got.Group != 2 || !got.NoNewPrivileges || got.DropCapabilities[0] != "ALL" || got.SupplementalGroups[0] != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	c.SecurityContext.RunAsUser = ptr(int64(0))
	if _, err := Security(pod, c); err == nil {
		t.Error("root was let in where the pod forbids it")
	}
}

func TestSortedTakesOneAddressAFamily(t *testing.T) {
	all := addrs("fd00::1", "10.0.0.1", "10.0.0.2", "fd00::2")
	if diff := cmp.Diff("10.0.0.1,fd00::1", join(Sorted(all, false))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("fd00::1,10.0.0.1", join(Sorted(all, true))); diff != "" {
		t.Error(diff)
	}
}
