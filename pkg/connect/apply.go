package connect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/overland-net/overland/pkg/api/v1alpha1"
	"github.com/overland-net/overland/pkg/source"
)

// ErrForeign is wrapped by the error about an object that is in the way and was
// not made by connect.
var ErrForeign = errors.New("not made by overland connect for this peer")

// typed is what the clients of all kinds have.
type typed[T object] interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (T, error)
	Create(ctx context.Context, o T, opts metav1.CreateOptions) (T, error)
	Update(ctx context.Context, o T, opts metav1.UpdateOptions) (T, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
}

// store is the client of one kind, whatever its type.
type store interface {
	get(ctx context.Context, name string) (object, error)
	create(ctx context.Context, o object) (object, error)
	update(ctx context.Context, o object) (object, error)
	remove(ctx context.Context, o object) error
}

type kindStore[T object] struct{ client typed[T] }

func (k kindStore[T]) get(ctx context.Context, name string) (object, error) {
	return k.client.Get(ctx, name, metav1.GetOptions{})
}

func (k kindStore[T]) create(ctx context.Context, o object) (object, error) {
	t, ok := o.(T)
	if !ok {
		return nil, fmt.Errorf("%s is not of the store's kind", describe(o))
	}
	return k.client.Create(ctx, t, metav1.CreateOptions{FieldManager: managedBy})
}

func (k kindStore[T]) update(ctx context.Context, o object) (object, error) {
	t, ok := o.(T)
	if !ok {
		return nil, fmt.Errorf("%s is not of the store's kind", describe(o))
	}
	return k.client.Update(ctx, t, metav1.UpdateOptions{FieldManager: managedBy})
}

// remove deletes exactly the object that was looked at.
func (k kindStore[T]) remove(ctx context.Context, o object) error {
	uid, version := o.GetUID(), o.GetResourceVersion()
	return k.client.Delete(ctx, o.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
}

// store is the one for objects like o.
func (c *Cluster) store(o object) (store, error) {
	switch o.(type) {
	case *corev1.Namespace:
		return kindStore[*corev1.Namespace]{c.Kube.CoreV1().Namespaces()}, nil
	case *corev1.ServiceAccount:
		return kindStore[*corev1.ServiceAccount]{c.Kube.CoreV1().ServiceAccounts(Namespace)}, nil
	case *corev1.Secret:
		return kindStore[*corev1.Secret]{c.Kube.CoreV1().Secrets(Namespace)}, nil
	case *rbacv1.ClusterRole:
		return kindStore[*rbacv1.ClusterRole]{c.Kube.RbacV1().ClusterRoles()}, nil
	case *rbacv1.ClusterRoleBinding:
		return kindStore[*rbacv1.ClusterRoleBinding]{c.Kube.RbacV1().ClusterRoleBindings()}, nil
	case *v1alpha1.RemoteCluster:
		return kindStore[*v1alpha1.RemoteCluster]{c.Remotes}, nil
	}
	return nil, fmt.Errorf("%s: there is no client for its kind", describe(o))
}

// look finds the object of o's kind and name; nil: there is none.
func (c *Cluster) look(ctx context.Context, o object) (object, error) {
	s, err := c.store(o)
	if err != nil {
		return nil, err
	}
	have, err := s.get(ctx, o.GetName())
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", describe(o), err)
	}
	return have, nil
}

// mine is look, and an error if what is there is somebody else's. The agents'
// namespace may be anybody's.
func (c *Cluster) mine(ctx context.Context, o object, peer string) (object, error) {
	have, err := c.look(ctx, o)
	if err != nil || have == nil {
		return nil, err
	}
	if _, isNamespace := o.(*corev1.Namespace); !isNamespace && !ours(have, peer) {
		return nil, fmt.Errorf("context %s: %s exists: %w: it lacks label %s=%s or annotation %s=%s. Remove or rename it, or link that cluster by hand",
			c.Context, describe(o), ErrForeign, managedByLabel, managedBy, peerAnnotation, peer)
	}
	return have, nil
}

// outcome is what became of an object.
type outcome string

const (
	created   outcome = "created"
	updated   outcome = "updated"
	unchanged outcome = "unchanged"
)

// attempts is how often a change is tried while others change the object in
// between, such as the agents the status of a RemoteCluster.
const attempts = 5

// insist repeats a change that begins with a look at the object.
func insist(change func() error) error {
	for attempt := 1; ; attempt++ {
		err := change()
		if attempt == attempts || !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
}

// apply creates o, or brings what is there into line with it.
func (c *Cluster) apply(ctx context.Context, o object, peer string) (result outcome, kept string, err error) {
	err = insist(func() error {
		result, kept, err = c.applyOnce(ctx, o, peer)
		return err
	})
	return result, kept, err
}

func (c *Cluster) applyOnce(ctx context.Context, o object, peer string) (outcome, string, error) {
	s, err := c.store(o)
	if err != nil {
		return "", "", err
	}
	have, err := c.mine(ctx, o, peer)
	if err != nil {
		return "", "", err
	}
	if have == nil {
		if _, err := s.create(ctx, o); err != nil {
			return "", "", fmt.Errorf("create %s: %w", describe(o), err)
		}
		return created, "", nil
	}
	change, ok := have.DeepCopyObject().(object)
	if !ok {
		return "", "", fmt.Errorf("%s cannot be copied", describe(o))
	}
	kept, err := merge(change, o)
	if err != nil {
		return "", "", err
	}
	if equal(have, change) {
		return unchanged, kept, nil
	}
	if _, err := s.update(ctx, change); err != nil {
		return "", "", fmt.Errorf("update %s: %w", describe(o), err)
	}
	return updated, kept, nil
}

// TokenOptions say which kind of token a link uses.
type TokenOptions struct {
	TTL    time.Duration // 0: one that does not expire
	Rotate bool          // a new one, whatever there is
}

// tokenWait is how long the source's API server may take to fill a Secret.
const (
	tokenWait = 30 * time.Second
	tokenPoll = 250 * time.Millisecond
)

// findToken gives the token that the learner is to use, and makes one if there is
// none yet that will do. superseded are the names of Secrets with tokens that
// are to go once the learner has this one.
func (h half) findToken(ctx context.Context, o TokenOptions, out Output) (token string, superseded []string, err error) {
	inUse, err := h.tokenInUse(ctx, h.learner)
	if err != nil {
		return "", nil, err
	}
	account, err := h.source.Kube.CoreV1().ServiceAccounts(Namespace).Get(ctx, h.accountName(), metav1.GetOptions{})
	if err != nil {
		return "", nil, fmt.Errorf("context %s: read ServiceAccount %s/%s: %w", h.source.Context, Namespace, h.accountName(), err)
	}
	if o.TTL > 0 {
		if !o.Rotate && inUse != nil && inUse.lasts(time.Now()) && string(account.UID) == inUse.accountUID {
			return inUse.token, h.tokenNames(), nil
		}
		token, err = h.request(ctx, h.source, o.TTL)
		return token, h.tokenNames(), err
	}
	names := h.tokenNames()
	name, err := h.tokenSecret(ctx, h.source, inUse, o.Rotate)
	if err != nil {
		return "", nil, err
	}
	token, err = h.awaitToken(ctx, name, string(account.UID), out)
	return token, slices.DeleteFunc(names, func(n string) bool { return n == name }), err
}

// tokenSecret is the Secret that is to hold the token: the one in use, or the
// other one when rotating.
func (d Direction) tokenSecret(ctx context.Context, from *Cluster, inUse *usedToken, rotate bool) (string, error) {
	var there []string
	current := ""
	for _, name := range d.tokenNames() {
		have, err := from.mine(ctx, d.token(name), d.Learner)
		if err != nil {
			return "", err
		}
		secret, ok := have.(*corev1.Secret)
		if have == nil || !ok {
			continue
		}
		there = append(there, name)
		if inUse != nil && string(secret.Data[corev1.ServiceAccountTokenKey]) == inUse.token {
			current = name
		}
	}
	switch {
	case rotate && current != "":
		// If the other one is there, an earlier rotation ended half-way.
		return slices.DeleteFunc(d.tokenNames(), func(n string) bool { return n == current })[0], nil
	case current != "":
		return current, nil
	case len(there) > 0:
		return there[0], nil
	}
	return d.tokenNames()[0], nil
}

// awaitToken makes sure of the Secret, and waits until it has the account's token.
func (h half) awaitToken(ctx context.Context, name, account string, out Output) (string, error) {
	if err := h.dropFormer(ctx, name, account, out); err != nil {
		return "", err
	}
	want := h.token(name)
	// Without it, the controller may give a token of a former account, which it
	// still has in its cache.
	want.Annotations[corev1.ServiceAccountUIDKey] = account
	if err := h.put(ctx, h.source, want, h.Learner, out); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, tokenWait)
	defer cancel()
	for {
		have, err := h.source.mine(ctx, want, h.Learner)
		if err != nil {
			return "", err
		}
		if secret, ok := have.(*corev1.Secret); ok && len(secret.Data[corev1.ServiceAccountTokenKey]) > 0 {
			return string(secret.Data[corev1.ServiceAccountTokenKey]), nil
		}
		if !sleep(ctx, tokenPoll) {
			return "", fmt.Errorf("context %s: Secret %s/%s has got no token within %s: is its kube-controller-manager running?", h.source.Context, Namespace, name, tokenWait)
		}
	}
}

// dropFormer removes the Secret if its token is of an account of that name that
// was deleted: nobody accepts it, and its cluster removes it sooner or later.
func (h half) dropFormer(ctx context.Context, name, account string, out Output) error {
	have, err := h.source.mine(ctx, h.token(name), h.Learner)
	if err != nil || have == nil {
		return err
	}
	if of := have.GetAnnotations()[corev1.ServiceAccountUIDKey]; of == "" || of == account {
		return nil
	}
	return h.drop(ctx, h.source, h.token(name), h.Learner, out)
}

// request asks the source for a token that is bound to the account and expires.
func (d Direction) request(ctx context.Context, from *Cluster, ttl time.Duration) (string, error) {
	seconds := int64(ttl / time.Second)
	answer, err := from.Kube.CoreV1().ServiceAccounts(Namespace).CreateToken(ctx, d.accountName(), &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("request a token of ServiceAccount %s/%s: %w", Namespace, d.accountName(), err)
	}
	return answer.Status.Token, nil
}

// usedToken is the token in the learner's kubeconfig.
type usedToken struct {
	token          string
	accountUID     string
	issued, expire time.Time
}

// lasts tells whether a token that expires need not be renewed yet: more than
// half of its life is left. The condition warns when a third is.
func (u *usedToken) lasts(now time.Time) bool {
	return !u.expire.IsZero() && !u.issued.IsZero() && u.expire.Sub(now) > u.expire.Sub(u.issued)/2
}

// tokenInUse reads the learner's kubeconfig; nil: there is none, or none that
// could be used.
func (d Direction) tokenInUse(ctx context.Context, learner *Cluster) (*usedToken, error) {
	have, err := learner.mine(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: d.kubeconfigName(), Namespace: Namespace}}, d.Source)
	if err != nil {
		return nil, err
	}
	secret, ok := have.(*corev1.Secret)
	if !ok {
		return nil, nil
	}
	config, err := clientcmd.Load(secret.Data[kubeconfigKey])
	if err != nil {
		return nil, nil // it is written anew
	}
	user := config.AuthInfos[d.accountName()]
	if user == nil || user.Token == "" {
		return nil, nil
	}
	used := &usedToken{token: user.Token, accountUID: tokenAccount(user.Token)}
	if c, failure := source.ParseKubeconfig(secret.Data[kubeconfigKey]); failure == nil {
		used.issued, used.expire = c.Issued, c.Expire
	}
	return used, nil
}

// sleep tells whether the time has passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
