package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"github.com/overland-net/overland/test/lab/kubeclient"
)

// probe asks a health endpoint in a network namespace. A guarded one may refuse
// to tell.
func probe(ctx context.Context, url, netns string, guarded bool) error {
	transport := &http.Transport{
		DialContext: kubeclient.Dialer(netns),
		// Only whether it answers counts here, and nothing is sent.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // see above
		DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("probe %s: %w", url, err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	_ = response.Body.Close() // the status is all there is to know
	refused := response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden
	if response.StatusCode == http.StatusOK || (guarded && refused) {
		return nil
	}
	return fmt.Errorf("probe: status %s", response.Status)
}
