package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/attach"
	"github.com/overland-net/overland/pkg/model"
	"github.com/overland-net/overland/pkg/node"
	"github.com/overland-net/overland/pkg/source"
)

// newAttachments is what serves the CNI plugin. Pods are asked for once pods has a
// way to the API server.
func newAttachments(cfg Config, own *ownNode, ag *agent.Agent, e *enforcer, pods *podReader, log *logrus.Entry) *attach.Manager {
	c := attach.Config{Cluster: cfg.ClusterName, Node: cfg.NodeName, Find: node.Find, Pod: pods.read}
	var enforce attach.Enforcer
	if e != nil {
		enforce = e
	}
	if own.state != nil {
		c.File, c.BootID = filepath.Join(cfg.StateDir, attach.FileName), own.state.BootID()
	}
	m, err := attach.NewManager(c, ag, enforce, log)
	if err != nil {
		log.WithError(err).Error("what was remembered of connected pods is lost: pods that the API server has no address of are dropped")
	}
	return m
}

// podReader asks the local API server for single pods.
type podReader struct {
	cluster string
	client  atomic.Pointer[kubernetes.Clientset]
}

// connect says how to reach the API server.
func (p *podReader) connect(local *rest.Config) error {
	client, err := kubernetes.NewForConfig(local)
	if err != nil {
		return fmt.Errorf("make a client of the local API server: %w", err)
	}
	p.client.Store(client)
	return nil
}

func (p *podReader) read(ctx context.Context, namespace, name string) (*model.Endpoint, model.UID, error) {
	client := p.client.Load()
	if client == nil {
		return nil, model.UID{}, errors.New("the agent is starting")
	}
	pod, static, err := source.Pod(ctx, client.CoreV1(), p.cluster, namespace, name)
	if errors.Is(err, source.ErrNoPod) {
		err = fmt.Errorf("%w: %w", attach.ErrNoPod, err)
	}
	return pod, static, err
}
