package labtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

const (
	fieldManager = "labtest"
	// requestTimeout bounds a request to an API server that may be busy.
	requestTimeout = 20 * time.Second
	// WaitTimeout is how long Wait waits: a lab of many pods on a busy machine
	// of two cores needs most of it.
	WaitTimeout = 90 * time.Second
)

// Namespace is a Kubernetes namespace of one test.
type Namespace struct {
	*Cluster
	Name string
	t    testing.TB
}

// NewNamespace creates a namespace of a new name that begins with prefix. It is
// deleted when the test ends, which waits then until the namespace's pods are
// gone: whatever they held is free again.
func (c *Cluster) NewNamespace(t testing.TB, prefix string) *Namespace {
	t.Helper()
	return c.create(t, metav1.ObjectMeta{GenerateName: prefix + "-"})
}

// NewNamespaceNamed is NewNamespace with the whole name given. One of that name
// that is on its way out is waited for.
func (c *Cluster) NewNamespaceNamed(t testing.TB, name string) *Namespace {
	t.Helper()
	c.In(t, name).Wait("an earlier namespace of this name to be gone", func(ctx context.Context) (string, bool, error) {
		old, err := c.Client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", true, ignoreNotFound(err)
		}
		if old.DeletionTimestamp == nil {
			t.Fatalf("namespace %s/%s is there already", c.Cluster.Name, name)
		}
		return "it is being deleted", false, nil
	})
	return c.create(t, metav1.ObjectMeta{Name: name})
}

func (c *Cluster) create(t testing.TB, meta metav1.ObjectMeta) *Namespace {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), requestTimeout)
	defer cancel()
	made, err := c.Client.CoreV1().Namespaces().Create(ctx, &v1.Namespace{ObjectMeta: meta}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create a namespace in %s: %v", c.Cluster.Name, err)
	}
	n := &Namespace{Cluster: c, Name: made.Name, t: t}
	t.Cleanup(n.remove)
	// Without it, pods are refused: another controller makes it.
	n.Wait("the ServiceAccount default", func(ctx context.Context) (string, bool, error) {
		_, err := c.Client.CoreV1().ServiceAccounts(n.Name).Get(ctx, "default", metav1.GetOptions{})
		return "none", err == nil, ignoreNotFound(err)
	})
	return n
}

// In is a namespace that exists already and stays.
func (c *Cluster) In(t testing.TB, name string) *Namespace {
	return &Namespace{Cluster: c, Name: name, t: t}
}

// With is the same namespace for another test, such as a subtest.
func (n *Namespace) With(t testing.TB) *Namespace {
	return &Namespace{Cluster: n.Cluster, Name: n.Name, t: t}
}

// remove deletes the namespace; the test's own context has ended by then.
func (n *Namespace) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), WaitTimeout)
	defer cancel()
	now := int64(1) // second of grace
	pods := n.Client.CoreV1().Pods(n.Name)
	// The namespace's own deletion would give every pod its full grace.
	err := pods.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{})
	err = errors.Join(err, n.Client.CoreV1().Namespaces().Delete(ctx, n.Name, metav1.DeleteOptions{}))
	if err != nil {
		n.t.Errorf("delete namespace %s/%s: %v", n.Cluster.Name, n.Name, err)
		return
	}
	n.await(ctx, "the namespace's pods to be gone", func(ctx context.Context) (string, bool, error) {
		left, err := pods.List(ctx, metav1.ListOptions{})
		if err != nil {
			return "", false, err
		}
		for _, p := range left.Items {
			if p.DeletionTimestamp == nil { // made by a controller meanwhile
				err = errors.Join(err, ignoreNotFound(pods.Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})))
			}
		}
		return fmt.Sprintf("%d pods", len(left.Items)), len(left.Items) == 0, err
	})
}

// Apply applies the objects of a YAML text, of one document or several, as
// `kubectl apply --server-side` does. Objects that belong in a namespace and
// name none are put in this one.
func (n *Namespace) Apply(text string) {
	n.t.Helper()
	n.each(text, func(ctx context.Context, objects dynamic.ResourceInterface, o *unstructured.Unstructured) error {
		body, err := json.Marshal(o)
		if err != nil {
			return err
		}
		force := true
		_, err = objects.Patch(ctx, o.GetName(), types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: fieldManager, Force: &force})
		return err
	})
}

// Delete deletes the objects of a YAML text; those that are not there are fine.
func (n *Namespace) Delete(text string) {
	n.t.Helper()
	n.each(text, func(ctx context.Context, objects dynamic.ResourceInterface, o *unstructured.Unstructured) error {
		return ignoreNotFound(objects.Delete(ctx, o.GetName(), metav1.DeleteOptions{}))
	})
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// each calls do for every object of the text.
func (n *Namespace) each(text string, do func(context.Context, dynamic.ResourceInterface, *unstructured.Unstructured) error) {
	n.t.Helper()
	objects, err := parse(text)
	if err != nil {
		n.t.Fatalf("%v in:\n%s", err, text)
	}
	for _, o := range objects {
		ctx, cancel := context.WithTimeout(n.t.Context(), requestTimeout)
		client, err := n.resource(o)
		if err == nil {
			err = do(ctx, client, o)
		}
		cancel()
		if err != nil {
			n.t.Fatalf("%s %s in %s/%s: %v", o.GetKind(), o.GetName(), n.Cluster.Name, n.Name, err)
		}
	}
}

// parse reads the objects of a YAML text.
func parse(text string) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	documents := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read YAML: %w", err)
		}
		text, err := yaml.YAMLToJSON(document)
		if err != nil {
			return nil, fmt.Errorf("read YAML: %w", err)
		}
		if string(text) == "null" {
			continue
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(text); err != nil {
			return nil, fmt.Errorf("read an object: %w", err)
		}
		all = append(all, o)
	}
}

// resource is the client for an object's kind, in its namespace.
func (n *Namespace) resource(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := o.GroupVersionKind()
	mapping, err := n.Mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		// It may be new.
		n.Mapper.Reset()
		mapping, err = n.Mapper.RESTMapping(kind.GroupKind(), kind.Version)
	}
	if err != nil {
		return nil, err
	}
	client := n.Dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return client, nil
	}
	if o.GetNamespace() == "" {
		o.SetNamespace(n.Name)
	}
	return client.Namespace(o.GetNamespace()), nil
}
