package bench

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/overland-net/overland/pkg/api/v1alpha1"
)

// syntheticVariable makes the tests' program a synthetic pair of API servers: a
// local one that links a remote one with as many pods as it says. Both end when
// their standard input does.
const syntheticVariable = "OVERLAND_BENCH_SYNTHETIC_PODS"

const (
	syntheticNamespaces = 100
	syntheticNodes      = 1000
	syntheticVersion    = "1000"
)

// synthetic is one API server: what a real one says of these objects, and no
// more than an agent asks for.
type synthetic struct {
	uid     string // of its kube-system namespace
	pods    int
	remotes []*v1alpha1.RemoteCluster
	secrets []*corev1.Secret
}

// serveSynthetic is the program's other role. It prints the path of a kubeconfig
// of the local server.
func serveSynthetic(pods int, folder string) error {
	remote := &synthetic{uid: "00000000-0000-4000-8000-000000000002", pods: pods}
	remoteConfig, err := remote.start()
	if err != nil {
		return err
	}
	local := &synthetic{
		uid: "00000000-0000-4000-8000-000000000001",
		secrets: []*corev1.Secret{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "overland-system", Name: "canada", UID: "00000000-0000-4000-8000-000000000003", ResourceVersion: syntheticVersion},
			Data:       map[string][]byte{"kubeconfig": remoteConfig},
		}},
		remotes: []*v1alpha1.RemoteCluster{{
			TypeMeta:   metav1.TypeMeta{APIVersion: "overland.dev/v1alpha1", Kind: "RemoteCluster"},
			ObjectMeta: metav1.ObjectMeta{Name: "canada", UID: "00000000-0000-4000-8000-000000000004", ResourceVersion: syntheticVersion, CreationTimestamp: metav1.Now()},
			Spec: v1alpha1.RemoteClusterSpec{
				Credentials: v1alpha1.Credentials{SecretRef: v1alpha1.SecretRef{Name: "canada", Key: "kubeconfig"}},
				PodCIDRs:    []string{"10.64.0.0/10"}, NodeCIDRs: []string{"10.2.0.0/16"},
			},
		}},
	}
	localConfig, err := local.start()
	if err != nil {
		return err
	}
	path := folder + "/kubeconfig"
	if err := os.WriteFile(path, localConfig, 0o600); err != nil {
		return err
	}
	fmt.Println(path)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// start serves on loopback and returns a kubeconfig.
func (s *synthetic) start() ([]byte, error) {
	certificate, authority, err := selfSigned()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: s, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	go func() { _ = server.ServeTLS(listener, "", "") }() // ends with the process
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: "https://" + listener.Addr().String(), CertificateAuthorityData: authority}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: "synthetic"}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "x"
	return clientcmd.Write(*config)
}

func selfSigned() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "synthetic"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func (s *synthetic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	resource := parts[len(parts)-1]
	switch {
	case r.Method != http.MethodGet:
		http.Error(w, "read only", http.StatusForbidden)
	case r.URL.Path == "/version":
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"major":"1","minor":"37","gitVersion":"v1.37.1"}`) // the client is gone else
	case r.URL.Path == "/api/v1/namespaces/kube-system":
		s.answer(w, r, s.namespace("kube-system", s.uid))
	case resource == "remoteclusters":
		s.remoteClusters(w, r)
	default:
		s.collection(w, r, resource)
	}
}

// codec is the serializer that the request accepts.
func codec(r *http.Request) runtime.SerializerInfo {
	name := runtime.ContentTypeJSON
	if strings.Contains(r.Header.Get("Accept"), runtime.ContentTypeProtobuf) {
		name = runtime.ContentTypeProtobuf
	}
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), name)
	return info
}

func encode(info runtime.SerializerInfo, o runtime.Object) []byte {
	var b bytes.Buffer
	if err := scheme.Codecs.EncoderForVersion(info.Serializer, schema.GroupVersions(scheme.Scheme.PrioritizedVersionsAllGroups())).Encode(o, &b); err != nil {
		panic(err) // of types that we have chosen ourselves
	}
	return b.Bytes()
}

func (s *synthetic) answer(w http.ResponseWriter, r *http.Request, o runtime.Object) {
	info := codec(r)
	w.Header().Set("Content-Type", info.MediaType)
	_, _ = w.Write(encode(info, o)) // the client is gone else
}

// collection lists or watches a kind.
func (s *synthetic) collection(w http.ResponseWriter, r *http.Request, resource string) {
	total, ok := s.count(resource)
	if !ok {
		http.NotFound(w, r)
		return
	}
	q := r.URL.Query()
	if q.Get("watch") == "true" || q.Get("watch") == "1" {
		s.watch(w, r, resource, total)
		return
	}
	from, _ := strconv.Atoi(q.Get("continue")) // none: from the start
	to := total
	if limit, _ := strconv.Atoi(q.Get("limit")); limit > 0 && from+limit < total {
		to = from + limit
	}
	meta := metav1.ListMeta{ResourceVersion: syntheticVersion}
	if to < total {
		meta.Continue = strconv.Itoa(to)
	}
	s.answer(w, r, s.list(resource, meta, from, to))
}

func (s *synthetic) count(resource string) (int, bool) {
	switch resource {
	case "pods":
		return s.pods, true
	case "nodes":
		return syntheticNodes, true
	case "namespaces":
		return syntheticNamespaces, true
	case "networkpolicies":
		return 0, true
	case "secrets":
		return len(s.secrets), true
	}
	return 0, false
}

func (s *synthetic) list(resource string, meta metav1.ListMeta, from, to int) runtime.Object {
	switch resource {
	case "pods":
		l := &corev1.PodList{ListMeta: meta}
		for i := from; i < to; i++ {
			l.Items = append(l.Items, *s.object(resource, i).(*corev1.Pod))
		}
		return l
	case "nodes":
		l := &corev1.NodeList{ListMeta: meta}
		for i := from; i < to; i++ {
			l.Items = append(l.Items, *s.object(resource, i).(*corev1.Node))
		}
		return l
	case "namespaces":
		l := &corev1.NamespaceList{ListMeta: meta}
		for i := from; i < to; i++ {
			l.Items = append(l.Items, *s.object(resource, i).(*corev1.Namespace))
		}
		return l
	case "secrets":
		l := &corev1.SecretList{ListMeta: meta}
		for i := from; i < to; i++ {
			l.Items = append(l.Items, *s.secrets[i])
		}
		return l
	}
	return &networkingv1.NetworkPolicyList{ListMeta: meta}
}

func (s *synthetic) object(resource string, i int) runtime.Object {
	switch resource {
	case "pods":
		return syntheticPod(i)
	case "nodes":
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%d", i), UID: uid(2, i), ResourceVersion: syntheticVersion, Labels: map[string]string{"kubernetes.io/os": "linux"}},
			Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.%d.%d.%d", s.uid[len(s.uid)-1]-'0', i/250, i%250+1)}}},
		}
	case "namespaces":
		return s.namespace(fmt.Sprintf("namespace-%d", i), string(uid(3, i)))
	}
	return s.secrets[i]
}

func (s *synthetic) namespace(name, id string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: name, UID: types.UID(id), ResourceVersion: syntheticVersion,
		Labels: map[string]string{"kubernetes.io/metadata.name": name, "team": "blue"},
	}}
}

func uid(kind, i int) types.UID {
	return types.UID(fmt.Sprintf("0000000%d-0000-4000-8000-%012d", kind, i))
}

// watch sends what there is, if it is asked for, and then says nothing new.
func (s *synthetic) watch(w http.ResponseWriter, r *http.Request, resource string, total int) {
	info := codec(r)
	w.Header().Set("Content-Type", info.MediaType+";stream=watch")
	w.WriteHeader(http.StatusOK)
	frames := info.StreamSerializer.NewFrameWriter(w)
	send := func(kind string, o runtime.Object) error {
		var b bytes.Buffer
		event := &metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: encode(info, o)}}
		if err := info.StreamSerializer.Encode(event, &b); err != nil {
			return err
		}
		_, err := frames.Write(b.Bytes())
		return err
	}
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		for i := range total {
			if send("ADDED", s.object(resource, i)) != nil {
				return
			}
		}
		o := s.object0(resource)
		o.SetResourceVersion(syntheticVersion)
		o.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
		if send("BOOKMARK", o.(runtime.Object)) != nil {
			return
		}
	}
	_ = http.NewResponseController(w).Flush() // the client is gone else
	<-r.Context().Done()
}

func (s *synthetic) object0(resource string) metav1.Object {
	switch resource {
	case "pods":
		return &corev1.Pod{}
	case "nodes":
		return &corev1.Node{}
	case "namespaces":
		return &corev1.Namespace{}
	case "secrets":
		return &corev1.Secret{}
	}
	return &networkingv1.NetworkPolicy{}
}

// remoteClusters is JSON only, as of all custom resources.
func (s *synthetic) remoteClusters(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	out := json.NewEncoder(w)
	if q := r.URL.Query(); q.Get("watch") != "" && q.Get("watch") != "false" {
		if q.Get("sendInitialEvents") == "true" {
			for _, c := range s.remotes {
				_ = out.Encode(map[string]any{"type": "ADDED", "object": c}) // the client is gone else
			}
			end := &v1alpha1.RemoteCluster{TypeMeta: metav1.TypeMeta{APIVersion: "overland.dev/v1alpha1", Kind: "RemoteCluster"}}
			end.ResourceVersion = syntheticVersion
			end.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
			_ = out.Encode(map[string]any{"type": "BOOKMARK", "object": end})
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return
	}
	items := s.remotes
	if items == nil {
		items = []*v1alpha1.RemoteCluster{}
	}
	_ = out.Encode(map[string]any{
		"apiVersion": "overland.dev/v1alpha1", "kind": "RemoteClusterList",
		"metadata": map[string]any{"resourceVersion": syntheticVersion}, "items": items,
	})
}
