package kubelet

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/overland-net/overland/test/lab/runtime"
)

// Command is `lab kubelet`, which runs on a node until it is told to stop.
func Command() *cobra.Command {
	var path string
	verbose := false
	command := &cobra.Command{
		Use: "kubelet", Short: "Run the kubelet of a node", Hidden: true,
		Args: cobra.NoArgs, SilenceUsage: true,
		RunE: func(*cobra.Command, []string) error {
			config, err := Load(path)
			if err != nil {
				return err
			}
			logger := logrus.New()
			if verbose {
				logger.SetLevel(logrus.DebugLevel)
			}
			ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer cancel()
			return Run(ctx, config, logger.WithField("node", config.NodeName))
		},
	}
	command.Flags().StringVar(&path, "config", "/etc/kubernetes/kubelet.yaml", "configuration file")
	command.Flags().BoolVar(&verbose, "verbose", false, "log details")
	return command
}

// Run runs a kubelet on the lab's runtime until the context ends.
func Run(ctx context.Context, config Config, log *logrus.Entry) error {
	rest, err := clientcmd.BuildConfigFromFlags("", config.Kubeconfig)
	if err != nil {
		return fmt.Errorf("load the kubeconfig: %w", err)
	}
	rest.QPS, rest.Burst = 100, 200 // many pods may come at once
	rest.UserAgent = "kubelet/" + Version
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return fmt.Errorf("make the API client: %w", err)
	}
	r, err := runtime.New(config.Runtime, log)
	if err != nil {
		return fmt.Errorf("start the container runtime: %w", err)
	}
	return New(config, client, r, r, r, r.Changed(), log).Run(ctx)
}
