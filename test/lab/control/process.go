package control

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/overland-net/overland/test/lab/topology"
)

// Process is a program to run, by the name it is called by.
type Process struct {
	Name string
	Args []string
	// Healthz is a URL that answers once it works, in its own network namespace.
	Healthz string
	// Guarded: it refuses strangers, and a refusal shows that it works.
	Guarded bool
}

// Node programs' files, as a node sees them.
const (
	// NodeCredentials is where NodeFiles of a node are found on it.
	NodeCredentials = "/var/lib/kubelet/pki"
	// KubeletConfig is the path of the kubelet's configuration on a node.
	KubeletConfig = "/var/lib/kubelet/config.json"
)

// Processes are the programs of the control plane, in the order of their start.
func (k *Cluster) Processes() []Process {
	return []Process{k.etcd(), k.apiServer(), k.controllerManager(), k.scheduler()}
}

func (k *Cluster) etcd() Process {
	return Process{Name: "etcd", Healthz: "http://127.0.0.1:2379/health", Args: []string{
		"--name=" + k.Name,
		"--data-dir=" + filepath.Join(k.dir, "etcd"),
		"--listen-client-urls=http://127.0.0.1:2379",
		"--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380",
		"--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=" + k.Name + "=http://127.0.0.1:2380",
		// A lab does not outlive its machine: durability would only slow it.
		"--unsafe-no-fsync=true",
		"--log-level=warn",
	}}
}

func (k *Cluster) apiServer() Process {
	bind := "0.0.0.0"
	if k.lab.Options.DualStack {
		bind = "::"
	}
	return Process{Name: "kube-apiserver", Healthz: fmt.Sprintf("https://127.0.0.1:%d/readyz", APIPort), Args: []string{
		"--advertise-address=" + k.ControlPlane.Addresses.V4.String(),
		"--bind-address=" + bind,
		fmt.Sprintf("--secure-port=%d", APIPort),
		"--etcd-servers=http://127.0.0.1:2379",
		"--service-cluster-ip-range=" + topology.JoinPrefixes(k.Services),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-signing-key-file=" + k.pki("account.key"),
		"--service-account-key-file=" + k.pki("account.pub"),
		"--client-ca-file=" + k.pki("ca.crt"),
		"--tls-cert-file=" + k.pki("apiserver.crt"),
		"--tls-private-key-file=" + k.pki("apiserver.key"),
		"--cert-dir=" + filepath.Join(k.dir, "pki"),
		"--kubelet-client-certificate=" + k.pki("kubelet-client.crt"),
		"--kubelet-client-key=" + k.pki("kubelet-client.key"),
		"--kubelet-certificate-authority=" + k.pki("ca.crt"),
		"--kubelet-preferred-address-types=InternalIP",
		"--requestheader-client-ca-file=" + k.pki("front-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + k.pki("front.crt"),
		"--proxy-client-key-file=" + k.pki("front.key"),
		// No kube-proxy runs beside the API server, so a webhook behind a
		// Service is called at its endpoints.
		"--enable-aggregator-routing=true",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
	}}
}

func (k *Cluster) controllerManager() Process {
	config := filepath.Join(k.dir, "controller-manager.kubeconfig")
	return Process{Name: "kube-controller-manager", Healthz: "https://127.0.0.1:10257/healthz", Args: []string{
		"--kubeconfig=" + config,
		"--authentication-kubeconfig=" + config,
		"--authorization-kubeconfig=" + config,
		"--bind-address=127.0.0.1",
		"--root-ca-file=" + k.pki("ca.crt"),
		"--service-account-private-key-file=" + k.pki("account.key"),
		"--cluster-signing-cert-file=" + k.pki("ca.crt"),
		"--cluster-signing-key-file=" + k.pki("ca.key"),
		"--use-service-account-credentials=true",
		"--cluster-name=" + k.Name,
		"--service-cluster-ip-range=" + topology.JoinPrefixes(k.Services),
		"--allocate-node-cidrs=false", // Azure CNI gives pods their addresses
		"--leader-elect=false",
		// Twice the usual time: a node whose lease could not be renewed because
		// the API server was down, on a busy machine, has not failed, and its pods
		// are not to lose their places in Services.
		"--node-monitor-grace-period=100s",
		"--cert-dir=" + filepath.Join(k.dir, "pki"),
	}}
}

func (k *Cluster) scheduler() Process {
	config := filepath.Join(k.dir, "scheduler.kubeconfig")
	return Process{Name: "kube-scheduler", Healthz: "https://127.0.0.1:10259/healthz", Args: []string{
		"--kubeconfig=" + config,
		"--authentication-kubeconfig=" + config,
		"--authorization-kubeconfig=" + config,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--cert-dir=" + filepath.Join(k.dir, "pki"),
	}}
}

// KubeProxy is a node's kube-proxy.
func (k *Cluster) KubeProxy(n topology.Node) Process {
	return Process{Name: "kube-proxy", Healthz: "http://127.0.0.1:10256/healthz", Args: []string{
		"--kubeconfig=" + NodeCredentials + "/kube-proxy.kubeconfig",
		"--hostname-override=" + n.Name,
		"--proxy-mode=iptables",
		// Azure CNI's pod addresses are no node's podCIDR: local traffic is
		// told by the interface it comes from, as on AKS.
		"--detect-local-mode=InterfaceNamePrefix",
		"--pod-interface-name-prefix=azv",
		// Anything else would be written to settings of the whole machine.
		"--conntrack-max-per-core=0",
		"--conntrack-min=0",
	}}
}

// Kubelet is a node's kubelet, a role of the lab's own program.
func (k *Cluster) Kubelet() Process {
	return Process{Name: "kubelet", Healthz: "https://127.0.0.1:10250/healthz", Guarded: true, Args: []string{"--config", KubeletConfig}}
}

// Addons is the manifest of what every cluster has: DNS.
func (k *Cluster) Addons() string {
	family := "IPv4"
	policy := "SingleStack"
	if k.lab.Options.DualStack {
		family, policy = "IPv4, IPv6", "RequireDualStack"
	}
	dns := topology.Addrs(k.DNS)
	texts := make([]string, len(dns))
	for i, a := range dns {
		texts[i] = fmt.Sprintf("%q", a)
	}
	replicas := min(2, len(k.Nodes))
	return strings.NewReplacer(
		"{{replicas}}", fmt.Sprint(replicas),
		"{{clusterIP}}", dns[0].String(),
		"{{clusterIPs}}", strings.Join(texts, ", "),
		"{{families}}", family,
		"{{policy}}", policy,
	).Replace(coreDNS)
}
