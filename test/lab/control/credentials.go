package control

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/netip"
	"path/filepath"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/overland-net/overland/test/lab/topology"
)

// APIPort is where API servers listen, on their control plane's addresses.
const APIPort = 6443

// KubeletUser is the user as which an API server calls kubelets; a kubelet
// accepts no other.
const KubeletUser = "kube-apiserver-kubelet-client"

// Cluster is the control plane of one cluster, with its files below a folder of
// its own.
type Cluster struct {
	topology.Cluster
	lab topology.Lab
	dir string
	ca  *authority
}

// New makes the keys, certificates and kubeconfig files of a cluster below dir.
func New(lab topology.Lab, c topology.Cluster, dir string) (*Cluster, error) {
	k := &Cluster{Cluster: c, lab: lab, dir: dir}
	if err := k.makeFiles(); err != nil {
		return nil, fmt.Errorf("credentials of cluster %s: %w", c.Name, err)
	}
	return k, nil
}

// Server is the URL of the API server.
func (k *Cluster) Server() string {
	return fmt.Sprintf("https://%s", netip.AddrPortFrom(k.ControlPlane.Addresses.V4, APIPort))
}

// Kubeconfig is the path of the administrator's kubeconfig. Its server is
// reachable from the lab's namespaces only.
func (k *Cluster) Kubeconfig() string { return filepath.Join(k.dir, "kubeconfig") }

func (k *Cluster) pki(name string) string { return filepath.Join(k.dir, "pki", name) }

func (k *Cluster) makeFiles() error {
	ca, err := newAuthority("overland-lab-" + k.Name)
	if err != nil {
		return err
	}
	k.ca = ca
	front, err := newAuthority("overland-lab-front-proxy-" + k.Name)
	if err != nil {
		return err
	}
	account, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the key of service accounts: %w", err)
	}
	files := map[string][]byte{"ca.crt": ca.pem, "front-ca.crt": front.pem}
	if files["ca.key"], err = encodeKey(ca.key); err != nil {
		return err
	}
	if files["account.key"], err = encodeKey(account); err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(account.Public())
	if err != nil {
		return fmt.Errorf("encode the key of service accounts: %w", err)
	}
	files["account.pub"] = encode("PUBLIC KEY", public)
	issued := []struct {
		name string
		by   *authority
		id   identity
	}{
		{"apiserver", ca, k.apiIdentity()},
		{"kubelet-client", ca, identity{user: KubeletUser, groups: []string{"system:masters"}}},
		{"front", front, identity{user: "front-proxy-client"}},
	}
	for _, i := range issued {
		pair, err := i.by.issue(i.id)
		if err != nil {
			return err
		}
		files[i.name+".crt"], files[i.name+".key"] = pair.cert, pair.key
	}
	if err := write(filepath.Join(k.dir, "pki"), files); err != nil {
		return err
	}
	return k.writeKubeconfigs()
}

func (k *Cluster) writeKubeconfigs() error {
	users := map[string]identity{
		"kubeconfig":                    {user: "lab-admin", groups: []string{"system:masters"}},
		"controller-manager.kubeconfig": {user: "system:kube-controller-manager"},
		"scheduler.kubeconfig":          {user: "system:kube-scheduler"},
	}
	files := map[string][]byte{}
	for name, id := range users {
		text, err := k.kubeconfigFor(id)
		if err != nil {
			return err
		}
		files[name] = text
	}
	return write(k.dir, files)
}

func (k *Cluster) apiIdentity() identity {
	domain := "cluster.local"
	services := topology.Prefixes(k.Services)
	addrs := append(topology.Addrs(k.ControlPlane.Addresses), netip.MustParseAddr("127.0.0.1"))
	for _, s := range services {
		addrs = append(addrs, s.Addr().Next()) // the kubernetes Service has the first address
	}
	return identity{user: "kube-apiserver", addrs: addrs, names: []string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + domain,
	}}
}

// kubeconfigFor is a kubeconfig, all inline, for a fresh certificate of id.
func (k *Cluster) kubeconfigFor(id identity) ([]byte, error) {
	pair, err := k.ca.issue(id)
	if err != nil {
		return nil, err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters[k.Name] = &clientcmdapi.Cluster{Server: k.Server(), CertificateAuthorityData: k.ca.pem}
	config.AuthInfos[id.user] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.cert, ClientKeyData: pair.key}
	config.Contexts[k.Name] = &clientcmdapi.Context{Cluster: k.Name, AuthInfo: id.user}
	config.CurrentContext = k.Name
	text, err := clientcmd.Write(*config)
	if err != nil {
		return nil, fmt.Errorf("encode the kubeconfig of %s: %w", id.user, err)
	}
	return text, nil
}

// NodeFiles writes what a node's programs need into dir: kubeconfig files of
// kubelet and kube-proxy, the kubelet's serving certificate and the authority.
func (k *Cluster) NodeFiles(n topology.Node, dir string) error {
	files := map[string][]byte{"ca.crt": k.ca.pem}
	var err error
	id := identity{user: "system:node:" + n.Name, groups: []string{"system:nodes"}}
	if files["kubelet.kubeconfig"], err = k.kubeconfigFor(id); err != nil {
		return err
	}
	if files["kube-proxy.kubeconfig"], err = k.kubeconfigFor(identity{user: "system:kube-proxy"}); err != nil {
		return err
	}
	id.names, id.addrs = []string{n.Name}, topology.Addrs(n.Addresses)
	pair, err := k.ca.issue(id)
	if err != nil {
		return err
	}
	files["kubelet.crt"], files["kubelet.key"] = pair.cert, pair.key
	if err := write(dir, files); err != nil {
		return fmt.Errorf("credentials of node %s: %w", n.Path(), err)
	}
	return nil
}
