package control

import (
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/overland-net/overland/test/lab/topology"
)

// made is a cluster with its files, single or dual-stack.
func made(t *testing.T, dualStack bool) (*Cluster, string) {
	t.Helper()
	lab := topology.New(topology.Options{Clusters: []string{"west", "canada"}, Nodes: 3, DualStack: dualStack, Iptables: "nft"})
	dir := filepath.Join(t.TempDir(), "with a blank")
	k, err := New(lab, lab.Clusters[1], dir)
	if err != nil {
		t.Fatal(err)
	}
	return k, dir
}

// pair reads a certificate and its key, which must fit each other.
func pair(t *testing.T, base string) *x509.Certificate {
	t.Helper()
	both, err := tls.LoadX509KeyPair(base+".crt", base+".key")
	if err != nil {
		t.Fatal(err)
	}
	return both.Leaf
}

func pool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := x509.NewCertPool()
	if !all.AppendCertsFromPEM(text) {
		t.Fatalf("%s has no certificate", file)
	}
	return all
}

func verify(t *testing.T, what string, cert *x509.Certificate, roots *x509.CertPool, usage x509.ExtKeyUsage, names ...string) {
	t.Helper()
	for _, name := range append(names, "") { // empty: for any
		o := x509.VerifyOptions{Roots: roots, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage}}
		if _, err := cert.Verify(o); err != nil {
			t.Errorf("%s as %q: %v", what, name, err)
		}
	}
}

func TestTheAPIServersCertificateIsForEveryNameItIsCalledBy(t *testing.T) {
	k, dir := made(t, true)
	cert, roots := pair(t, filepath.Join(dir, "pki", "apiserver")), pool(t, filepath.Join(dir, "pki", "ca.crt"))
	verify(t, "API server", cert, roots, x509.ExtKeyUsageServerAuth,
		"10.2.255.4", "fd00:2:0:ff::4", "127.0.0.1", "10.102.0.1", "fd00:102::1",
		"localhost", "kubernetes", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
	if err := cert.VerifyHostname("10.2.0.4"); err == nil {
		t.Error("it is for a node, too")
	}
	if k.Server() != "https://10.2.255.4:6443" {
		t.Errorf("the server is %s", k.Server())
	}
}

func TestClientCertificatesNameTheirUsers(t *testing.T) {
	k, dir := made(t, false)
	node := k.Nodes[1]
	credentials := filepath.Join(dir, "node")
	if err := k.NodeFiles(node, credentials); err != nil {
		t.Fatal(err)
	}
	roots := pool(t, filepath.Join(dir, "pki", "ca.crt"))
	tests := []struct {
		file, user string
		groups     []string
	}{
		{k.Kubeconfig(), "lab-admin", []string{"system:masters"}},
		{filepath.Join(dir, "controller-manager.kubeconfig"), "system:kube-controller-manager", nil},
		{filepath.Join(dir, "scheduler.kubeconfig"), "system:kube-scheduler", nil},
		{filepath.Join(credentials, "kubelet.kubeconfig"), "system:node:node-2", []string{"system:nodes"}},
		{filepath.Join(credentials, "kube-proxy.kubeconfig"), "system:kube-proxy", nil},
	}
	for _, tt := range tests {
		config, err := clientcmd.BuildConfigFromFlags("", tt.file)
		if err != nil {
			t.Fatal(err)
		}
		if config.Host != k.Server() {
			t.Errorf("%s: the server is %s", tt.file, config.Host)
		}
		both, err := tls.X509KeyPair(config.CertData, config.KeyData)
		if err != nil {
			t.Fatalf("%s: %v", tt.file, err)
		}
		verify(t, tt.file, both.Leaf, roots, x509.ExtKeyUsageClientAuth)
		if s := both.Leaf.Subject; s.CommonName != tt.user || !slices.Equal(s.Organization, tt.groups) {
			t.Errorf("%s: it is for %s of %v, want %s of %v", tt.file, s.CommonName, s.Organization, tt.user, tt.groups)
		}
		server := pair(t, filepath.Join(dir, "pki", "apiserver"))
		inline := x509.NewCertPool()
		if !inline.AppendCertsFromPEM(config.CAData) {
			t.Fatalf("%s has no authority", tt.file)
		}
		verify(t, "API server by "+tt.file, server, inline, x509.ExtKeyUsageServerAuth)
	}
	verify(t, "kubelet", pair(t, filepath.Join(credentials, "kubelet")), roots, x509.ExtKeyUsageServerAuth, "node-2", "10.2.0.5")
	client := pair(t, filepath.Join(dir, "pki", "kubelet-client"))
	verify(t, "the kubelet's client", client, roots, x509.ExtKeyUsageClientAuth)
	if client.Subject.CommonName != KubeletUser {
		t.Errorf("the kubelet's client is %s", client.Subject.CommonName)
	}
}

func TestAuthoritiesDoNotVouchForEachOther(t *testing.T) {
	_, dir := made(t, false)
	_, other := made(t, false)
	front := pair(t, filepath.Join(dir, "pki", "front"))
	verify(t, "front proxy", front, pool(t, filepath.Join(dir, "pki", "front-ca.crt")), x509.ExtKeyUsageClientAuth)
	server := pair(t, filepath.Join(dir, "pki", "apiserver"))
	for what, bad := range map[string]struct {
		cert *x509.Certificate
		by   string
	}{
		"the front proxy, by the cluster's authority": {front, filepath.Join(dir, "pki", "ca.crt")},
		"the server, by another cluster's authority":  {server, filepath.Join(other, "pki", "ca.crt")},
	} {
		if _, err := bad.cert.Verify(x509.VerifyOptions{Roots: pool(t, bad.by)}); err == nil {
			t.Errorf("%s, is vouched for", what)
		}
	}
}

func TestCredentialsAreForTheirOwnerOnly(t *testing.T) {
	k, dir := made(t, false)
	if err := k.NodeFiles(k.Nodes[0], filepath.Join(dir, "node")); err != nil {
		t.Fatal(err)
	}
	count := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		count++
		info, err := entry.Info()
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil || count == 0 {
		t.Errorf("%d files, %v", count, err)
	}
}

func TestAFolderThatCannotBeMadeIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	lab := topology.New(topology.Options{Clusters: []string{"west"}, Nodes: 1, Iptables: "nft"})
	_, err := New(lab, lab.Clusters[0], filepath.Join(file, "west"))
	if err == nil || !strings.Contains(err.Error(), "credentials of cluster west: make folder: ") || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
}

// documents parses a manifest of several objects.
func documents(t *testing.T, text string) map[string]*unstructured.Unstructured {
	t.Helper()
	all := map[string]*unstructured.Unstructured{}
	for _, document := range strings.Split(text, "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(document), &o.Object); err != nil {
			t.Fatalf("%v in:\n%s", err, document)
		}
		all[o.GetKind()] = o
	}
	return all
}

func TestAddonsAreWellFormedForOneFamilyAndForBoth(t *testing.T) {
	tests := []struct {
		dualStack bool
		families  []string
		addresses []string
		policy    string
	}{
		{false, []string{"IPv4"}, []string{"10.102.0.10"}, "SingleStack"},
		{true, []string{"IPv4", "IPv6"}, []string{"10.102.0.10", "fd00:102::a"}, "RequireDualStack"},
	}
	for _, tt := range tests {
		k, _ := made(t, tt.dualStack)
		text := k.Addons()
		if strings.Contains(text, "{{") {
			t.Errorf("something was not filled in:\n%s", text)
		}
		all := documents(t, text)
		for _, kind := range []string{"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "ConfigMap", "Deployment", "Service"} {
			if all[kind] == nil || all[kind].GetName() == "" || all[kind].GetAPIVersion() == "" {
				t.Errorf("there is no %s", kind)
			}
		}
		service := all["Service"].Object
		families, _, _ := unstructured.NestedStringSlice(service, "spec", "ipFamilies")
		addresses, _, _ := unstructured.NestedStringSlice(service, "spec", "clusterIPs")
		first, _, _ := unstructured.NestedString(service, "spec", "clusterIP")
		policy, _, _ := unstructured.NestedString(service, "spec", "ipFamilyPolicy")
		if !slices.Equal(families, tt.families) || !slices.Equal(addresses, tt.addresses) || first != addresses[0] || policy != tt.policy {
			t.Errorf("dual-stack %t: families %v, addresses %s %v, policy %s", tt.dualStack, families, first, addresses, policy)
		}
	}
}

func TestProgramsGetFilesThatExistAndAddressesOfTheirCluster(t *testing.T) {
	for _, dualStack := range []bool{false, true} {
		k, dir := made(t, dualStack)
		var names []string
		for _, p := range k.Processes() {
			names = append(names, p.Name)
			if p.Healthz == "" {
				t.Errorf("%s has no health endpoint", p.Name)
			}
			for _, arg := range p.Args {
				_, path, _ := strings.Cut(arg, "=")
				if !strings.HasPrefix(path, dir) || strings.HasPrefix(arg, "--data-dir=") {
					continue
				}
				if _, err := os.Stat(path); err != nil {
					t.Errorf("%s %s: %v", p.Name, arg, err)
				}
			}
		}
		// etcd and the API server come first: the daemon waits for them.
		if want := []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}; !slices.Equal(names, want) {
			t.Errorf("the programs are %v, want %v", names, want)
		}
		services := "--service-cluster-ip-range=10.102.0.0/16"
		if dualStack {
			services += ",fd00:102::/112"
		}
		for _, i := range []int{1, 2} {
			if p := k.Processes()[i]; !slices.Contains(p.Args, services) {
				t.Errorf("%s lacks %s: %v", p.Name, services, p.Args)
			}
		}
	}
}

func TestKubeProxyWritesNoSettingsOfTheMachine(t *testing.T) {
	k, _ := made(t, false)
	proxy := k.KubeProxy(k.Nodes[2])
	for _, want := range []string{"--conntrack-max-per-core=0", "--conntrack-min=0", "--hostname-override=node-3"} {
		if !slices.Contains(proxy.Args, want) {
			t.Errorf("it lacks %s: %v", want, proxy.Args)
		}
	}
}

func TestSerialNumbersDiffer(t *testing.T) {
	a, err := newAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{a.cert.SerialNumber.String(): true}
	for range 8 {
		template, err := certTemplate(identity{user: "user", addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}})
		if err != nil {
			t.Fatal(err)
		}
		if seen[template.SerialNumber.String()] {
			t.Error("a serial number came twice")
		}
		seen[template.SerialNumber.String()] = true
	}
}
