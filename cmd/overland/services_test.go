package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/admin"
	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/federation"
)

// federating is what an agent knows of federated Services.
type federating struct {
	own       federation.ServicesSnapshot
	published *federation.Reports
}

func (f federating) Snapshot() (*federation.ServicesSnapshot, <-chan struct{}) { return &f.own, nil }

func (f federating) Published(context.Context) (*federation.Reports, error) {
	if f.published == nil {
		return nil, errors.New("no agent has published anything: \x1b[31mConfigMap overland-system/overland-services is not there")
	}
	return f.published, nil
}

func federatedServices() []api.Service {
	return []api.Service{
		{
			Namespace: "redis", Name: "testdb-federated", Expression: `federation == "yes"`,
			Federated: api.ServiceCondition{Status: "True", Reason: "PartlyStale", Message: "canada is out of contact"}, Ready: 3, Published: 2,
			Clusters: []api.ServiceCluster{
				{Name: "west", State: "Serving", Backing: []string{"testdb"}, BackingCount: 1, Taken: 2, Ready: 2, Published: 2},
				{
					Name: "canada", State: "Spare", Stale: true, Partial: true, Backing: []string{"testdb", "testdb-old"}, BackingCount: 5, Taken: 1, Ready: 1,
					Refused: []api.RefusedAddresses{
						{Reason: "NoMatchingPort", Count: 1, Examples: []string{"10.2.1.4"}},
						{Reason: "NotOwned", Count: 6, Examples: []string{"10.2.1.7", "10.2.1.8", "10.2.1.9", "10.2.1.10"}},
					},
				},
			},
		},
		{
			Namespace: "shop", Name: "front", Federated: api.ServiceCondition{Status: "False", Reason: "ForeignEndpoints"},
			Foreign:  []api.ForeignObject{{Kind: "Endpoints", Name: "front", Command: "kubectl delete endpoints --namespace shop front"}},
			Problems: []string{"preference: no cluster is called \x1b[31mnada"},
		},
	}
}

func leads() federating {
	return federating{own: federation.ServicesSnapshot{Leading: true, Leader: "overland-agent-abcde", Whole: true, At: ago(time.Second), Reports: federatedServices()}}
}

func follows(d time.Duration) federating {
	return federating{published: &federation.Reports{Leader: "overland-agent-abcde", Written: ago(d), Services: federatedServices()}}
}

func TestOutputAboutServices(t *testing.T) {
	tests := []struct {
		golden   string
		snapshot *agent.Snapshot
		services admin.Services
		args     string // separated by ;
		status   int
	}{
		{"services", healthy(), leads(), "services", 0},
		{"services-wide", healthy(), follows(time.Minute), "services;-n;shop;-o;wide", 0},
		{"services-json", healthy(), follows(time.Minute), "services;-n;shop;-o;json", 0},
		{"services-old", healthy(), follows(time.Hour), "services", 3},
		{"services-unread", healthy(), federating{}, "services", 3},
		{"services-cut", cut(), leads(), "services", 3},
		{"service", healthy(), follows(time.Minute), "services;redis/testdb-federated", 0},
		{"service-wide", healthy(), leads(), "services;-n;redis;testdb-federated;-o;wide", 0},
		{"service-foreign", healthy(), leads(), "services;shop/front", 0},
		{"service-yaml", healthy(), leads(), "services;shop/front;-o;yaml", 0},
		{"service-unknown", healthy(), leads(), "services;shop/nope", 1},
		{"service-without-namespace", healthy(), leads(), "services;front", 2},
	}
	for _, tt := range tests {
		t.Run(tt.golden, func(t *testing.T) {
			socket := agentConfigured(t, tt.snapshot, admin.Config{Services: tt.services})
			args := strings.Split(tt.args, ";")
			stdout, stderr, status := call(t, append(args, "--socket", socket)...)
			if status != tt.status {
				t.Errorf("exit status %d, want %d", status, tt.status)
			}
			text := fmt.Sprintf("$ overland %s\n%s", strings.Join(args, " "), stdout)
			if stderr != "" {
				text += "-- standard error\n" + stderr
			}
			golden(t, tt.golden, text+fmt.Sprintf("-- exit status %d\n", status))
		})
	}
}
