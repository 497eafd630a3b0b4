package api

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/overland-net/overland/pkg/api/client"
	"github.com/overland-net/overland/pkg/api/v1alpha1"
)

func TestTheClientDoesWhatTheAPIServerCan(t *testing.T) {
	t.Parallel()
	c := remoteClusters(t)
	store, ended := informed(t, c)
	r := &v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: "client"}}
	r.Spec.Credentials.SecretRef.Name = "client"
	made, err := c.Create(t.Context(), r, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the informer has it", func() bool { return known(store, "client") != nil })
	if _, err := c.Patch(t.Context(), "client", types.MergePatchType, []byte(`{"status": {"state": "Syncing"}}`), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the informer has its status", func() bool { return known(store, "client").Status.State == "Syncing" })
	if _, err := c.UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("an update of what has changed meanwhile: %v", err)
	}
	list, err := c.List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=client"})
	if err != nil || len(list.Items) != 1 {
		t.Errorf("list: %v, %v", list, err)
	}
	again, err := c.Get(t.Context(), "client", metav1.GetOptions{})
	if err != nil || again.UID != made.UID {
		t.Errorf("get: %v, %v", again, err)
	}
	if err := c.Delete(t.Context(), "client", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the informer has lost it", func() bool { return known(store, "client") == nil })
	if _, err := c.Get(t.Context(), "client", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("get what is gone: %v", err)
	}
	select {
	case <-ended:
		t.Error("the informer has ended")
	default:
	}
}

// informed runs an informer of all RemoteClusters until the test ends.
func informed(t *testing.T, c client.Reader) (cache.Store, <-chan struct{}) {
	t.Helper()
	store, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: client.ListWatch(c), ObjectType: &v1alpha1.RemoteCluster{}, Handler: cache.ResourceEventHandlerFuncs{},
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		informer.RunWithContext(ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return store, ended
}

// known is what the informer has of that name; nil: nothing.
func known(store cache.Store, name string) *v1alpha1.RemoteCluster {
	for _, object := range store.List() {
		if r, ok := object.(*v1alpha1.RemoteCluster); ok && r.Name == name {
			return r
		}
	}
	return nil
}

// eventually waits for a condition, for a minute at most.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain waited until %s", what)
		}
	}
}
