package connect

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/overland-net/overland/pkg/api/v1alpha1"
	"github.com/overland-net/overland/pkg/model"
)

// DisconnectOptions say how two clusters are unlinked.
type DisconnectOptions struct {
	NameA, NameB string // instead of what the clusters call themselves
	OneWay       bool   // only A forgets B
	DryRun       bool
}

// ErrPartly is wrapped by the error of Disconnect when what could be done is
// done, and something is left.
var ErrPartly = errors.New("unlinked in part")

const (
	removed outcome = "removed"
	absent  outcome = "absent"
	foreign outcome = "left"
)

// remove deletes an object if it is connect's own for that peer.
func (c *Cluster) remove(ctx context.Context, o object, peer string) (result outcome, err error) {
	err = insist(func() error {
		result, err = c.removeOnce(ctx, o, peer)
		return err
	})
	return result, err
}

func (c *Cluster) removeOnce(ctx context.Context, o object, peer string) (outcome, error) {
	s, err := c.store(o)
	if err != nil {
		return "", err
	}
	have, err := c.look(ctx, o)
	if err != nil {
		return "", err
	}
	if have == nil {
		return absent, nil
	}
	if !ours(have, peer) {
		return foreign, nil
	}
	if err := s.remove(ctx, have); err != nil && !apierrors.IsNotFound(err) {
		return "", fmt.Errorf("delete %s: %w", describe(o), err)
	}
	return removed, nil
}

// end is one of the clusters that are being unlinked.
type end struct {
	*Cluster
	name string
	lost error // it cannot be reached
}

// Disconnect removes what Connect has made between a and b, and nothing else.
// What people made or took over stays, with a line that says so. If one of them
// cannot be reached, its part is left, and the error wraps ErrPartly. Repeated,
// it finishes.
func Disconnect(ctx context.Context, a, b *Cluster, o DisconnectOptions, out Output) error {
	ends := [2]*end{{Cluster: a}, {Cluster: b}}
	for _, e := range ends {
		e.name, e.lost = declaredName(ctx, e.Cluster)
	}
	if ends[0].lost != nil && ends[1].lost != nil {
		return errors.Join(ends[0].lost, ends[1].lost)
	}
	if err := names(ctx, ends, o); err != nil {
		return err
	}
	var left []string
	directions := [][2]*end{{ends[0], ends[1]}}
	if !o.OneWay {
		directions = append(directions, [2]*end{ends[1], ends[0]})
	}
	for _, d := range directions {
		more, err := forget(ctx, d[0], d[1], o.DryRun, out)
		if err != nil {
			return fmt.Errorf("%w\nRun the same command again to finish", err)
		}
		left = append(left, more...)
	}
	if len(left) == 0 {
		return nil
	}
	for _, e := range ends {
		if e.lost != nil {
			out.log("%s (context %s) cannot be reached: %v", e.name, e.Context, e.lost)
		}
	}
	return fmt.Errorf("%w: run the same command again when both clusters can be reached. Left: %s", ErrPartly, strings.Join(left, ", "))
}

// forget removes one direction: first the link, then the account that it used.
func forget(ctx context.Context, learner, from *end, dryRun bool, out Output) (left []string, err error) {
	d := Direction{Learner: learner.name, Source: from.name}
	out.log("%s forgets %s", d.Learner, d.Source)
	parts := []struct {
		on      *end
		peer    string
		objects []object
	}{
		{learner, d.Source, []object{
			&v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: d.Source}},
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: d.kubeconfigName(), Namespace: Namespace}},
		}},
		{from, d.Learner, []object{
			&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: d.accountName()}},
			&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: d.accountName()}},
			d.token(d.tokenNames()[0]),
			d.token(d.tokenNames()[1]),
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: d.accountName(), Namespace: Namespace}},
		}},
	}
	for _, p := range parts {
		for _, o := range p.objects {
			if p.on.lost != nil {
				left = append(left, fmt.Sprintf("%s in %s", describe(o), p.on.name))
				continue
			}
			if err := take(ctx, p.on, o, p.peer, dryRun, out); err != nil {
				return left, err
			}
		}
	}
	return left, nil
}

// take removes one object and says so.
func take(ctx context.Context, on *end, o object, peer string, dryRun bool, out Output) error {
	if dryRun {
		have, err := on.look(ctx, o)
		if err != nil {
			return fmt.Errorf("context %s: %w", on.Context, err)
		}
		if have != nil && ours(have, peer) {
			out.log("  would remove  %s in %s", describe(o), on.name)
		}
		return nil
	}
	result, err := on.remove(ctx, o, peer)
	if err != nil {
		return fmt.Errorf("context %s: %w", on.Context, err)
	}
	switch result {
	case removed:
		out.log("  removed  %s in %s", describe(o), on.name)
	case foreign:
		out.log("  left     %s in %s: not made by overland connect for %s", describe(o), on.name, peer)
	}
	return nil
}

// declaredName is what the cluster calls itself; empty if it says nothing. An
// error: it cannot be reached.
func declaredName(ctx context.Context, c *Cluster) (string, error) {
	f := Facts{}
	if err := gatherConfig(ctx, c, &f); err != nil {
		return "", err
	}
	if f.Name != "" {
		return f.Name, nil
	}
	ns, err := c.Kube.CoreV1().Namespaces().Get(ctx, Namespace, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read namespace %s: %w", Namespace, err)
	}
	return ns.Annotations[model.AnnotationClusterName], nil
}

// names settles the names of both ends. That of a cluster that cannot be reached
// is the one of the link, on the other end, that leads to its server.
func names(ctx context.Context, ends [2]*end, o DisconnectOptions) error {
	for i, given := range []string{o.NameA, o.NameB} {
		if given != "" {
			ends[i].name = given
		}
	}
	for i, e := range ends {
		other := ends[1-i]
		if e.name == "" && other.lost == nil {
			name, err := linkTo(ctx, other.Cluster, e.Server)
			if err != nil {
				return err
			}
			e.name = name
		}
		if e.name == "" {
			flag := []string{"--name-a", "--name-b"}[i]
			return errors.Join(fmt.Errorf("context %q: the name of the cluster is not known: give %s", e.Context, flag), e.lost)
		}
	}
	if ends[0].name == ends[1].name {
		return fmt.Errorf("both contexts, %s and %s, lead to a cluster called %s", ends[0].Context, ends[1].Context, ends[0].name)
	}
	return nil
}

// linkTo is the name of the link that leads to a server; empty if there is none
// or more than one.
func linkTo(ctx context.Context, c *Cluster, server string) (string, error) {
	secrets, err := c.Kube.CoreV1().Secrets(Namespace).List(ctx, metav1.ListOptions{LabelSelector: managedByLabel + "=" + managedBy})
	if err != nil {
		return "", fmt.Errorf("context %s: list the Secrets of namespace %s: %w", c.Context, Namespace, err)
	}
	var found []string
	for _, s := range secrets.Items {
		config, err := clientcmd.Load(s.Data[kubeconfigKey])
		if err != nil || len(s.Data[kubeconfigKey]) == 0 {
			continue
		}
		for _, cluster := range config.Clusters {
			if sameServer(cluster.Server, server) {
				found = append(found, s.Annotations[peerAnnotation])
			}
		}
	}
	slices.Sort(found)
	if found = slices.Compact(found); len(found) != 1 {
		return "", nil
	}
	return found[0], nil
}

func sameServer(a, b string) bool {
	x, err := url.Parse(a)
	if err != nil {
		return false
	}
	y, err := url.Parse(b)
	return err == nil && x.Host != "" && x.Host == y.Host
}
