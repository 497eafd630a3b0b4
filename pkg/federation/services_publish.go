package federation

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/overland-net/overland/pkg/admin/api"
)

const (
	// ReportsName is the ConfigMap, in the agent's namespace, by which the leader
	// tells the other agents what it knows of federated Services.
	ReportsName = "overland-services"
	reportsKey  = "services.json.gz"
	// reportsFormat is the version of what is in it: a reader takes this one only.
	reportsFormat = 1
	// maxReports is how large it becomes: an object may have 1 MiB. maxUnpacked is
	// what a reader unpacks of it.
	maxReports  = 900 << 10
	maxUnpacked = 64 << 20
	// It is written at once if nothing has changed for the longer time, once more
	// after the shorter one, and then after the longer one each.
	firstReports = 2 * time.Second
	nextReports  = 10 * time.Second
	// ReportsPeriod is how often it is written though nothing has changed, so that
	// an old one is known as such.
	ReportsPeriod = 5 * time.Minute
	// askPeriod is for how long an agent does not read it again.
	askPeriod = time.Second
)

// Reports are what the leader has published.
type Reports struct {
	Format   int           `json:"format"`
	Leader   string        `json:"leader"`
	Written  time.Time     `json:"written"`
	LeftOut  int           `json:"leftOut,omitempty"`
	Services []api.Service `json:"services"`
}

// pack makes reports small, leaving out the last ones if there is no room.
func (p Reports) pack(limit int) ([]byte, error) {
	all := p.Services
	for {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if err := json.NewEncoder(z).Encode(p); err != nil {
			return nil, fmt.Errorf("pack the reports of federated Services: %w", err)
		}
		if err := z.Close(); err != nil {
			return nil, fmt.Errorf("pack the reports of federated Services: %w", err)
		}
		if b.Len() <= limit || len(p.Services) == 0 {
			return b.Bytes(), nil
		}
		fit := len(p.Services) * limit / b.Len() * 9 / 10
		p.Services = all[:min(fit, len(p.Services)-1)]
		p.LeftOut = len(all) - len(p.Services)
	}
}

// unpack is the reverse. What is in the ConfigMap may be anything.
func unpack(packed []byte) (*Reports, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(z, maxUnpacked+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxUnpacked {
		return nil, fmt.Errorf("more than %d bytes", maxUnpacked)
	}
	p := new(Reports)
	if err := json.Unmarshal(text, p); err != nil {
		return nil, err
	}
	if p.Format != reportsFormat {
		return nil, fmt.Errorf("format %d, where %d is expected: the leader has another version", p.Format, reportsFormat)
	}
	return p, nil
}

// publishReports keeps the ConfigMap up to date until ctx ends.
func (s *Services) publishReports(ctx context.Context) {
	w := &reportsWriter{Services: s, every: firstReports}
	for ctx.Err() == nil {
		snapshot, newer := s.Snapshot()
		if !snapshot.Whole {
			pause(ctx, newer, nil, 0)
			continue
		}
		pause(ctx, nil, nil, w.turn(ctx, time.Now(), snapshot))
		if w.idle {
			pause(ctx, newer, nil, ReportsPeriod-time.Since(w.at))
		}
	}
}

// reportsWriter writes the ConfigMap.
type reportsWriter struct {
	*Services
	is      *corev1.ConfigMap // as last seen; nil: not seen
	last    []byte            // what was written, without when
	at      time.Time         // when
	every   time.Duration
	retries time.Duration
	idle    bool // what is known has been written
	told    bool // a failure
}

// turn writes if that is due, and gives the time until it may be again.
func (w *reportsWriter) turn(ctx context.Context, now time.Time, s *ServicesSnapshot) time.Duration {
	rested := w.idle && now.Sub(w.at) >= nextReports
	w.idle = false
	reports := Reports{Format: reportsFormat, Leader: w.cfg.Identity, Services: s.Reports}
	same, err := json.Marshal(reports)
	if err == nil && bytes.Equal(same, w.last) && now.Sub(w.at) < ReportsPeriod {
		w.idle = true
		return 1 // nothing has changed
	}
	if rested {
		w.every = firstReports
	}
	if err == nil {
		reports.Written = now.UTC().Truncate(time.Second)
		err = w.put(ctx, reports)
	}
	if err != nil {
		if !w.told && ctx.Err() == nil {
			w.told = true
			w.log.WithError(err).Warn("cannot publish what is known of federated Services: other agents cannot tell of them")
		}
		w.retries = min(lastRetry, max(firstRetry, 2*w.retries))
		return w.retries
	}
	w.told, w.retries, w.last, w.at = false, 0, same, now
	wait := w.every
	w.every = nextReports
	return wait
}

// put writes the ConfigMap over the one that was seen.
func (w *reportsWriter) put(ctx context.Context, reports Reports) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	packed, err := reports.pack(maxReports)
	if err != nil {
		return err
	}
	maps := w.client.CoreV1().ConfigMaps(w.cfg.Namespace)
	if w.is == nil {
		is, err := maps.Get(ctx, ReportsName, metav1.GetOptions{})
		switch {
		case err == nil:
			w.is = is
		case !apierrors.IsNotFound(err):
			return fmt.Errorf("read ConfigMap %s/%s: %w", w.cfg.Namespace, ReportsName, err)
		}
	}
	want := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace: w.cfg.Namespace, Name: ReportsName, Labels: map[string]string{"app.kubernetes.io/part-of": "overland"},
	}}
	write := func(ctx context.Context) (*corev1.ConfigMap, error) {
		return maps.Create(ctx, want, metav1.CreateOptions{})
	}
	if w.is != nil {
		want = w.is.DeepCopy() // with its uid and resourceVersion
		write = func(ctx context.Context) (*corev1.ConfigMap, error) {
			return maps.Update(ctx, want, metav1.UpdateOptions{})
		}
	}
	want.Data, want.BinaryData = nil, map[string][]byte{reportsKey: packed}
	if w.is, err = write(ctx); err != nil {
		w.is = nil // read anew
		return fmt.Errorf("write ConfigMap %s/%s: %w", w.cfg.Namespace, ReportsName, err)
	}
	return nil
}

// answerOfLeader is what the ConfigMap last said. Many questions at once read it
// once.
type answerOfLeader struct {
	mu      sync.Mutex
	at      time.Time
	reports *Reports
	err     error
	version string
	uid     types.UID
}

// Published is what the leader has published, read from the API server.
func (s *Services) Published(ctx context.Context) (*Reports, error) {
	a := &s.asked
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.at.IsZero() && time.Since(a.at) < askPeriod {
		return a.reports, a.err
	}
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	is, err := s.client.CoreV1().ConfigMaps(s.cfg.Namespace).Get(ctx, ReportsName, metav1.GetOptions{})
	if ctx.Err() != nil && err != nil {
		return nil, err // of this question
	}
	a.at, a.err = time.Now(), err
	switch {
	case apierrors.IsNotFound(err):
		a.err = fmt.Errorf("no agent has published anything: ConfigMap %s/%s is not there", s.cfg.Namespace, ReportsName)
	case err == nil && is.UID == a.uid && is.ResourceVersion == a.version && a.reports != nil:
		return a.reports, nil
	case err == nil:
		if a.reports, err = unpack(is.BinaryData[reportsKey]); err != nil {
			a.err = fmt.Errorf("ConfigMap %s/%s cannot be read: %w", s.cfg.Namespace, ReportsName, err)
		}
		a.uid, a.version = is.UID, is.ResourceVersion
	}
	if a.err != nil {
		a.reports = nil
	}
	return a.reports, a.err
}
