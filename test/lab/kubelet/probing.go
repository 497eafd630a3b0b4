package kubelet

import (
	"bytes"
	"context"
	"maps"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/overland-net/overland/test/lab/kubelet/podplan"
	"github.com/overland-net/overland/test/lab/kubelet/podspec"
	"github.com/overland-net/overland/test/lab/kubelet/podstatus"
	"github.com/overland-net/overland/test/lab/kubelet/probe"
	"github.com/overland-net/overland/test/lab/runtime"
)

// probes runs the probes of one pod's containers, each on a goroutine of its
// own, and keeps their results.
type probes struct {
	k      *Kubelet
	notify func() // a result changed

	mu      sync.Mutex
	result  probe.Results
	running map[probe.Key]context.CancelFunc
	ending  bool // only readiness is still of interest
}

func newProbes(k *Kubelet, notify func()) *probes {
	return &probes{k: k, notify: notify, result: probe.Results{}, running: map[probe.Key]context.CancelFunc{}}
}

func (p *probes) results() probe.Results {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.result)
}

// sync begins the probes of containers that run and ends those of others. It
// says whether a probe was begun, which gives it a first result.
func (p *probes) sync(_ context.Context, pod *v1.Pod, seen podplan.Seen, last v1.PodStatus, ip string) (begun bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	want := map[probe.Key]bool{}
	for _, c := range seen.Containers {
		spec := podspec.FindContainer(pod, c.Name)
		if spec == nil || c.State != runtime.Running {
			continue
		}
		for _, kind := range []probe.Kind{probe.Startup, probe.Readiness, probe.Liveness} {
			if probe.Of(spec, kind) == nil {
				continue
			}
			key := probe.Key{ContainerID: c.ID, Kind: kind}
			want[key] = true
			if _, ok := p.running[key]; ok || p.ending {
				continue
			}
			ctx, cancel := context.WithCancel(context.Background())
			p.running[key] = cancel
			p.result[key] = first(kind, c, last)
			begun = true
			go p.run(ctx, pod, spec, c, kind, ip)
		}
	}
	for key, cancel := range p.running {
		if !want[key] {
			cancel()
			delete(p.running, key)
			delete(p.result, key)
		}
	}
	return begun
}

// first is the result before the first answer. What an earlier kubelet said of
// the same container stays true until an answer says otherwise.
func first(kind probe.Kind, c runtime.Container, last v1.PodStatus) probe.Result {
	for _, all := range [][]v1.ContainerStatus{last.ContainerStatuses, last.InitContainerStatuses} {
		for _, s := range all {
			if s.ContainerID != podstatus.IDPrefix+c.ID {
				continue
			}
			if kind == probe.Readiness && s.Ready || kind == probe.Startup && s.Started != nil && *s.Started {
				return probe.Success
			}
		}
	}
	return probe.Initial(kind)
}

// onlyReadiness ends the probes that could get a container killed.
func (p *probes) onlyReadiness() { p.end(probe.Startup, probe.Liveness) }

// stop ends all probes; none is begun afterwards.
func (p *probes) stop() { p.end(probe.Startup, probe.Liveness, probe.Readiness) }

func (p *probes) end(kinds ...probe.Kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ending = true
	for key, cancel := range p.running {
		for _, kind := range kinds {
			if key.Kind == kind {
				cancel()
			}
		}
	}
}

// run asks until the context ends or, for a startup probe or a failed liveness
// probe, until there is nothing more to learn of this container.
func (p *probes) run(ctx context.Context, pod *v1.Pod, spec *v1.Container, c runtime.Container, kind probe.Kind, ip string) {
	key := probe.Key{ContainerID: c.ID, Kind: kind}
	settings := probe.Of(spec, kind)
	tracker := probe.NewTracker(settings, p.results()[key])
	target := probe.Target{Container: spec, PodIP: ip, Exec: p.k.execOutput(c.ID)}
	period := time.Duration(max(1, settings.PeriodSeconds)) * time.Second
	begin := c.StartedAt.Add(time.Duration(settings.InitialDelaySeconds) * time.Second)
	if kind == probe.Startup && tracker.Result() == probe.Success {
		return
	}
	if kind == probe.Liveness {
		// The first one comes within a period: a program is not alive at once.
		begin = begin.Add(min(period, 2*time.Second))
	}
	if !pause(ctx, time.Until(begin)) || kind != probe.Startup && !p.awaitStart(ctx, spec, c) {
		return
	}
	for {
		answer, why := probe.Ask(ctx, settings, target)
		if ctx.Err() != nil {
			return
		}
		if answer == probe.Failure {
			p.k.events.Eventf(pod, v1.EventTypeWarning, "Unhealthy", "%s probe failed: %s", kind, why)
		}
		if tracker.Observe(answer) {
			p.set(key, tracker.Result())
			if kind == probe.Startup || kind == probe.Liveness && tracker.Result() == probe.Failure {
				return
			}
		}
		wait := period
		if kind == probe.Readiness && tracker.Result() == probe.Failure && settings.SuccessThreshold <= 1 && time.Since(begin) < period {
			// The real kubelet asks out of turn whenever it looks at a pod that
			// is not ready yet, so that it need not wait for a whole period.
			wait = min(period, 500*time.Millisecond)
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// awaitStart waits until the container is past its startup probe.
func (p *probes) awaitStart(ctx context.Context, spec *v1.Container, c runtime.Container) bool {
	for spec.StartupProbe != nil && p.results()[probe.Key{ContainerID: c.ID, Kind: probe.Startup}] != probe.Success {
		if !pause(ctx, 100*time.Millisecond) {
			return false
		}
	}
	return true
}

func (p *probes) set(key probe.Key, r probe.Result) {
	p.mu.Lock()
	before, live := p.result[key]
	if live {
		p.result[key] = r
	}
	p.mu.Unlock()
	if live && before != r {
		p.notify()
	}
}

// pause sleeps; it says no if the context ended before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// execOutput runs commands in a container for probes and hooks.
func (k *Kubelet) execOutput(id string) func(ctx context.Context, command []string) (string, int, error) {
	return func(ctx context.Context, command []string) (string, int, error) {
		var out limited
		code, err := k.streams.Exec(ctx, id, command, runtime.ExecIO{Stdout: &out, Stderr: &out})
		return out.String(), code, err
	}
}

// limited keeps the first 10 KiB that are written to it. It is safe for the two
// writers that a command has.
type limited struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *limited) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if room := 10<<10 - l.buf.Len(); room > 0 {
		l.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (l *limited) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
