package connect

import (
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// print writes the manifests of the link as YAML documents, each with a comment
// that says where it belongs, and what the link would widen as comments.
func (l *link) print(o TokenOptions, out Output) error {
	var b strings.Builder
	for i, h := range l.halves {
		fmt.Fprintf(&b, "# %s learns %s.\n", h.Learner, h.Source)
		for _, w := range Widened(l.learning(i).Facts, h.Source, h.Labels) {
			fmt.Fprintf(&b, "# Widens NetworkPolicy %s/%s in %s: %s.\n", w.Namespace, w.Name, h.Learner, w.Why)
		}
		granted := h.account()
		if h.makesNamespace {
			granted = append([]object{h.namespace()}, granted...)
		}
		if o.TTL == 0 {
			granted = append(granted, h.token(h.tokenNames()[0]))
		}
		for _, o := range granted {
			if err := document(&b, h.Source, h.source.Context, o); err != nil {
				return err
			}
		}
		secret, err := h.kubeconfig(placeholder)
		if err != nil {
			return err
		}
		// As text, so that a person can read it.
		secret.StringData, secret.Data = map[string]string{kubeconfigKey: string(secret.Data[kubeconfigKey])}, nil
		remote, err := h.remoteCluster()
		if err != nil {
			return err
		}
		for _, o := range []object{secret, remote} {
			if err := document(&b, h.Learner, h.learner.Context, o); err != nil {
				return err
			}
		}
	}
	if _, err := io.WriteString(out.Out, b.String()); err != nil {
		return fmt.Errorf("print the manifests: %w", err)
	}
	return nil
}

func document(b *strings.Builder, cluster, context string, o object) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return fmt.Errorf("print %s: %w", describe(o), err)
	}
	delete(fields, "status") // nobody applies it
	if meta, ok := fields["metadata"].(map[string]any); ok {
		delete(meta, "creationTimestamp")
	}
	text, err := yaml.Marshal(fields)
	if err != nil {
		return fmt.Errorf("print %s: %w", describe(o), err)
	}
	fmt.Fprintf(b, "---\n# In %s (context %s)\n%s", cluster, context, text)
	return nil
}
