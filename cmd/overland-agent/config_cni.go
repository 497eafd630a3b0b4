package main

import (
	"path/filepath"
	"slices"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"github.com/overland-net/overland/pkg/admin"
	"github.com/overland-net/overland/pkg/cni"
	"github.com/overland-net/overland/pkg/cni/conflist"
	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/model"
)

// CNIConfig is the part of the configuration that is about the CNI plugin.
type CNIConfig struct {
	// CNI is whether the plugin is installed.
	CNI bool `json:"cni"`
	// CNIConfDir and CNIBinDir are the runtime's folders of lists of plugins, and of
	// their programs; CNIPlugin is the path of ours in the agent's image.
	CNIConfDir string `json:"cniConfDir,omitempty"`
	CNIBinDir  string `json:"cniBinDir,omitempty"`
	CNIPlugin  string `json:"cniPlugin,omitempty"`
	// CNITimeoutSeconds is how long the start of a pod waits for the agent.
	CNITimeoutSeconds int `json:"cniTimeoutSeconds,omitempty"`
	// FailOpenNamespaces are those whose pods start without the agent's answer.
	// Nil: kube-system and the agent's own; empty: none.
	FailOpenNamespaces []string `json:"failOpenNamespaces,omitzero"`
}

func cniDefaults() CNIConfig {
	return CNIConfig{
		CNI: true, CNIConfDir: "/etc/cni/net.d", CNIBinDir: "/opt/cni/bin", CNIPlugin: "/" + cni.PluginType,
		CNITimeoutSeconds: cni.DefaultTimeoutSeconds,
	}
}

func (c *CNIConfig) bind(flags *pflag.FlagSet) {
	flags.BoolVar(&c.CNI, "cni", c.CNI, "install the CNI plugin, which lets a pod start only when its policies are in force")
	flags.StringVar(&c.CNIConfDir, "cni-conf-dir", c.CNIConfDir, "folder in which the container runtime looks for lists of CNI plugins")
	flags.StringVar(&c.CNIBinDir, "cni-bin-dir", c.CNIBinDir, "folder in which the container runtime looks for CNI plugins")
	flags.StringVar(&c.CNIPlugin, "cni-plugin", c.CNIPlugin, "path of the CNI plugin in the agent's image")
	flags.IntVar(&c.CNITimeoutSeconds, "cni-timeout-seconds", c.CNITimeoutSeconds, "how long the start of a pod waits for the agent")
	flags.StringSliceVar(&c.FailOpenNamespaces, "fail-open-namespaces", c.FailOpenNamespaces, "namespaces whose pods start even if the agent does not answer (default kube-system and the agent's own)")
}

func (c *CNIConfig) validate(bad func(field, format string, args ...any)) {
	for _, path := range []struct{ field, value string }{
		{"cniConfDir", c.CNIConfDir}, {"cniBinDir", c.CNIBinDir}, {"cniPlugin", c.CNIPlugin},
	} {
		if !filepath.IsAbs(path.value) {
			bad(path.field, "%q: an absolute path is expected", path.value)
		}
	}
	if c.CNITimeoutSeconds < 1 || c.CNITimeoutSeconds > cni.MaxTimeoutSeconds {
		bad("cniTimeoutSeconds", "%d: a number from 1 to %d is expected", c.CNITimeoutSeconds, cni.MaxTimeoutSeconds)
	}
	for _, namespace := range c.FailOpenNamespaces {
		if why := utilvalidation.IsDNS1123Label(namespace); len(why) > 0 {
			bad("failOpenNamespaces", "%q: %s", namespace, why[0])
		}
	}
}

// failOpen are the namespaces whose pods start without the agent's answer.
func (c *Config) failOpen() []string {
	if c.FailOpenNamespaces != nil {
		return c.FailOpenNamespaces
	}
	namespaces := []string{"kube-system", c.Namespace}
	slices.Sort(namespaces)
	return slices.Compact(namespaces)
}

// withCNI is how enforcement is doing with what is wrong about the CNI plugin: a pod
// that starts without it is not protected from its first packet on.
type withCNI struct {
	admin.Dataplane
	installer *conflist.Installer
}

// Status implements admin.Dataplane.
func (w withCNI) Status() dataplane.Status {
	s := w.Dataplane.Status()
	if now := w.installer.Status(); now.Error != "" {
		s.Problems = append(s.Problems[:len(s.Problems):len(s.Problems)], model.Problem{Kind: model.ProblemCNI, Message: now.Error})
	}
	return s
}

// newInstaller is what keeps the CNI plugin installed, or away: without a
// dataplane there is nothing that a pod could wait for.
func newInstaller(cfg Config, log *logrus.Entry) (*conflist.Installer, error) {
	return conflist.New(conflist.Config{
		ConfDir: cfg.CNIConfDir, BinDir: cfg.CNIBinDir, Plugin: cfg.CNIPlugin,
		Conf: cni.Conf{Socket: cfg.AdminSocket, TimeoutSeconds: cfg.CNITimeoutSeconds, FailOpenNamespaces: cfg.failOpen()},
		Off:  !cfg.CNI || cfg.Dataplane == dataplaneNone,
	}, log)
}
