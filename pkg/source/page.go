package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
)

// pageSize is how many objects are asked for at once.
const pageSize = 500

// pageSizes are tried one after another when an answer is too long: with the
// last one, objects as large as etcd stores them fit.
func pageSizes() []int64 { return []int64{pageSize, 50, 10} }

// ListWithContext lists all, page by page, for a reflector. It reads the newest
// state whatever opts ask for: API servers give old states unpaged.
func (f *feed) ListWithContext(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
	if err := f.mayAsk(); err != nil {
		return nil, err
	}
	if err := f.imports.wait(ctx, f); err != nil {
		return nil, err
	}
	generation := f.imports.generation()
	list, err := f.list(ctx)
	f.listed(ctx, err)
	if err != nil {
		f.budget.release(f)
		return nil, err
	}
	f.listedAt.Store(generation)
	return list, nil
}

func (f *feed) list(ctx context.Context) (list *itemList, err error) {
	for _, size := range pageSizes() {
		if list, err = f.pages(ctx, size); !errors.Is(err, errTooLong) {
			break
		}
	}
	return list, err
}

// pages collects all pages. The limit of endpoints ends it as soon as it is
// passed: what a remote has beyond it is never read.
func (f *feed) pages(ctx context.Context, size int64) (*itemList, error) {
	all := &itemList{}
	var total cost
	token, restarted := "", false
	for n := 0; ; n++ {
		page, err := f.page(ctx, size, token)
		if apierrors.IsResourceExpired(err) && token != "" && !restarted {
			all, total, token, restarted = &itemList{}, cost{}, "", true
			continue
		}
		if err != nil {
			return nil, err
		}
		all.ResourceVersion = page.ResourceVersion
		for _, i := range page.Items {
			if f.wanted(i) {
				all.Items = append(all.Items, i)
				total = total.plus(costOf(i.fact))
			}
		}
		if !f.budget.reserve(f, f.cost(), total) {
			return nil, f.budget.failure()
		}
		if token = page.Continue; token == "" {
			return all, nil
		}
		if n > f.maxPages(size) {
			return nil, fmt.Errorf("list %s: it does not end", f.resource)
		}
	}
}

// maxPages leaves room for as many objects that are no endpoints, such as pods
// that have finished, as there may be endpoints.
func (f *feed) maxPages(size int64) int {
	const ample = 20_000
	if f.budget.limit.objects == 0 {
		return ample * pageSize / int(size)
	}
	return 2*f.budget.limit.objects/int(size) + 1000
}

func (f *feed) page(ctx context.Context, size int64, token string) (*itemList, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timing.PageTimeout)
	defer cancel()
	options := metav1.ListOptions{Limit: size, Continue: token, FieldSelector: f.fieldSelector}
	answer, err := f.client.Get().NamespaceIfScoped(f.namespace, f.scoped()).Resource(f.resource).
		VersionedParams(&options, scheme.ParameterCodec).MaxRetries(0).Do(ctx).Get()
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", f.resource, err)
	}
	page, ok := answer.(*itemList)
	if !ok || page.kind != f.kind {
		return nil, fmt.Errorf("list %s: %w", f.resource, errNotAsked)
	}
	f.events.heard(time.Now())
	return page, nil
}
