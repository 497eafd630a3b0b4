package kubelet

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	criapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/logs"

	"github.com/overland-net/overland/test/lab/kubelet/podspec"
	"github.com/overland-net/overland/test/lab/runtime"
)

// logs sends a container's log.
func (s *server) logs(w http.ResponseWriter, r *http.Request) {
	options, previous, err := logOptions(r, time.Now())
	if err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return
	}
	pod := s.pod(w, r)
	if pod == nil {
		return
	}
	name := r.PathValue("container")
	if podspec.FindContainer(pod, name) == nil {
		answer(w, http.StatusNotFound, fmt.Sprintf("container %q not found in pod %q", name, pod.Name))
		return
	}
	c, why := s.logged(pod, name, previous)
	if why != "" {
		answer(w, http.StatusBadRequest, why)
		return
	}
	out := &flushing{w: w, control: http.NewResponseController(w)}
	var stdout, stderr io.Writer = out, out
	switch r.FormValue("stream") {
	case v1.LogStreamStdout:
		stderr = nil
	case v1.LogStreamStderr:
		stdout = nil
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	err = logs.ReadLogs(r.Context(), c.LogPath, c.ID, options, states{k: s.k}, stdout, stderr)
	if err != nil && r.Context().Err() == nil {
		s.k.log.WithError(err).WithField("container", name).Debug("reading a log ended")
	}
}

// logged finds the container whose log is asked for, or says why there is none.
func (s *server) logged(pod *v1.Pod, name string, previous bool) (runtime.Container, string) {
	seen := s.k.observe(pod.UID)
	if previous {
		if c, ok := seen.Latest(name); ok && c.State == runtime.Exited && seen.ShouldRun(pod, podspec.FindContainer(pod, name)) {
			return c, "" // it waits to be restarted
		}
		if c, ok := seen.Previous(name); ok {
			return c, ""
		}
		return runtime.Container{}, fmt.Sprintf("previous terminated container %q in pod %q not found", name, pod.Name)
	}
	if c, ok := seen.Latest(name); ok {
		return c, ""
	}
	reason := "ContainerCreating"
	for _, all := range [][]v1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, status := range all {
			if status.Name == name && status.State.Waiting != nil {
				reason = status.State.Waiting.Reason
			}
		}
	}
	return runtime.Container{}, fmt.Sprintf("container %q in pod %q is waiting to start: %s", name, pod.Name, reason)
}

// logOptions reads a request for a log as the API server sends it.
func logOptions(r *http.Request, now time.Time) (o *logs.LogOptions, previous bool, err error) {
	o = &logs.LogOptions{}
	flag := func(name string) bool {
		text := r.FormValue(name)
		if text == "" || err != nil {
			return false
		}
		var value bool
		if value, err = strconv.ParseBool(text); err != nil {
			err = fmt.Errorf("parameter %s: %w", name, err)
		}
		return value
	}
	number := func(name string) *int64 {
		text := r.FormValue(name)
		if text == "" || err != nil {
			return nil
		}
		var value int64
		if value, err = strconv.ParseInt(text, 10, 64); err != nil {
			err = fmt.Errorf("parameter %s: %w", name, err)
		}
		return &value
	}
	o.Follow, o.Timestamp, previous = flag("follow"), flag("timestamps"), flag("previous")
	o.TailLines, o.LimitBytes = number("tailLines"), number("limitBytes")
	if seconds := number("sinceSeconds"); seconds != nil {
		o.Since = now.Add(-time.Duration(*seconds) * time.Second)
	}
	if text := r.FormValue("sinceTime"); text != "" && err == nil {
		if o.Since, err = time.Parse(time.RFC3339, text); err != nil {
			err = fmt.Errorf("parameter sinceTime: %w", err)
		}
	}
	return o, previous, err
}

// states tells the log reader whether a container still runs, which is all it
// asks of the runtime.
type states struct {
	criapi.RuntimeService
	k *Kubelet
}

// ContainerStatus says whether the container runs.
func (s states) ContainerStatus(_ context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	for _, c := range s.k.containers.Containers() {
		if c.ID != id {
			continue
		}
		state := runtimeapi.ContainerState_CONTAINER_EXITED
		if c.State == runtime.Running {
			state = runtimeapi.ContainerState_CONTAINER_RUNNING
		}
		return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{Id: id, State: state}}, nil
	}
	return nil, fmt.Errorf("container %s is gone", id)
}

// flushing sends every line at once, for those who follow a log.
type flushing struct {
	w       io.Writer
	control *http.ResponseController
}

func (f *flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, f.control.Flush()
}
