package source

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/overland-net/overland/pkg/model"
)

// item is what a reflector gets instead of an object: its key, what it says as a
// fact, or why it says none. It is never changed.
type item struct {
	kind                     model.Kind
	namespace, name, version string
	// fact is nil for what is no endpoint, and for what is refused.
	fact    model.Fact
	refused model.RefusalReason
	// reserved: the object bore reserved labels.
	reserved bool
	// initialEventsEnd: a bookmark, the end of a streamed list.
	initialEventsEnd bool
}

// GetObjectKind is there for runtime.Object.
func (*item) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject gives the item itself: it is immutable.
func (i *item) DeepCopyObject() runtime.Object { return i }

// GetObjectMeta gives what reflectors and their stores ask for.
func (i *item) GetObjectMeta() metav1.Object {
	m := &metav1.ObjectMeta{Namespace: i.namespace, Name: i.name, ResourceVersion: i.version}
	if i.initialEventsEnd {
		m.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
	}
	return m
}

// key is the fact's key in its cluster.
func (i *item) key(kind model.Kind, cluster string) model.Key {
	return model.Key{Kind: kind, Cluster: cluster, Namespace: i.namespace, Name: i.name}
}

// itemList is a page, or all pages, of items.
type itemList struct {
	metav1.TypeMeta
	metav1.ListMeta
	kind  model.Kind
	Items []*item
}

// DeepCopyObject gives the list itself: it is immutable.
func (l *itemList) DeepCopyObject() runtime.Object { return l }

// interner keeps one copy of what many objects have: names of namespaces, nodes,
// service accounts, and the named ports that all pods of a workload have alike. It
// is safe for concurrent use.
type interner struct {
	mu       sync.Mutex
	seen     map[string]string
	seenPort map[string][]model.NamedPort
}

// maxInterned bounds the interner: a cluster with more distinct names than this
// shares fewer of them.
const maxInterned = 1 << 16

func (n *interner) one(s string) string {
	if s == "" {
		return ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if known, ok := n.seen[s]; ok {
		return known
	}
	if n.seen == nil || len(n.seen) == maxInterned {
		n.seen = map[string]string{}
	}
	n.seen[s] = s
	return s
}

// text is the one copy of a text that is no string yet, and need not become one.
func (n *interner) text(b []byte) string {
	n.mu.Lock()
	known, ok := n.seen[string(b)]
	n.mu.Unlock()
	if ok {
		return known
	}
	return n.one(string(b))
}

// ports is the one copy of a list of ports, which is never changed.
func (n *interner) ports(list []model.NamedPort) []model.NamedPort {
	if len(list) == 0 {
		return nil
	}
	var key []byte
	for _, p := range list {
		key = append(append(key, p.Name...), 0, byte(p.Protocol), byte(p.Port>>8), byte(p.Port))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if known, ok := n.seenPort[string(key)]; ok {
		return known
	}
	if n.seenPort == nil || len(n.seenPort) == maxInterned {
		n.seenPort = map[string][]model.NamedPort{}
	}
	n.seenPort[string(key)] = list
	return list
}
