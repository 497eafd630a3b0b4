package iptables_test

import (
	"io"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/overland-net/overland/pkg/dataplane"
	"github.com/overland-net/overland/pkg/dataplane/dataplanetest"
	"github.com/overland-net/overland/pkg/dataplane/iptables"
)

func TestConformance(t *testing.T) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	dataplanetest.Conformance(t, func(_ testing.TB, k *dataplanetest.Kernel) dataplane.Dataplane {
		return iptables.New(iptables.Config{IPv6: true}, k, logrus.NewEntry(log))
	})
}
