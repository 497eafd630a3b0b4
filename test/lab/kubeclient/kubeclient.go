// Package kubeclient makes clients of a lab's API servers. Those listen in
// network namespaces only, so every connection is dialled inside one. It may
// import test/lab/ns.
package kubeclient

import (
	"context"
	"fmt"
	"net"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/overland-net/overland/test/lab/ns"
)

// Config is a client configuration from a kubeconfig file, whose connections
// are made in the network namespace bound at netns.
func Config(kubeconfig, netns string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	config.Dial = Dialer(netns)
	// The default of 5 requests a second is for well-behaved controllers.
	config.QPS, config.Burst = 200, 400
	return config, nil
}

// Dialer dials in the network namespace bound at netns.
func Dialer(netns string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var conn net.Conn
		err := ns.Net(netns).Do(func() error {
			var err error
			// One address at a time and no happy eyeballs: those would dial from
			// another thread, outside the namespace.
			dialer := net.Dialer{Timeout: 10 * time.Second, FallbackDelay: -1}
			conn, err = dialer.DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}
