package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"time"

	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/attach"
	"github.com/overland-net/overland/pkg/model"
)

const (
	// maxBody bounds what the CNI plugin sends: the names of 4,096 attachments.
	maxBody = 1 << 20
	// maxWait is how long an ADD may wait, whatever its caller says: less than
	// writeTimeout.
	maxWait = time.Minute
	// maxName bounds names of containers and interfaces, which only runtimes give.
	maxName = 253
)

// CNI is the pods of this node that are connected: an *attach.Manager. It is asked
// from any goroutine.
type CNI interface {
	Add(ctx context.Context, r attach.Request) error
	Check(r attach.Request) error
	Delete(containerID, ifName string) error
	Collect(valid func(containerID, ifName string) bool) error
	Ready() error
	Count() int
}

// cniHandlers serves the CNI plugin: the only paths by which something is changed.
func (s *Server) cniHandlers(mux *http.ServeMux) {
	for path, h := range map[string]func(context.Context, []byte) error{
		api.PathCNIAdd: s.cniAdd, api.PathCNICheck: s.cniCheck, api.PathCNIDelete: s.cniDelete, api.PathCNIGC: s.cniCollect,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost {
				w.Header().Set("Allow", "POST")
				writeError(w, newError(http.StatusMethodNotAllowed, api.CodeNotAllowed, "%s %s: only POST is served", r.Method, r.URL.Path))
				return
			}
			began := time.Now()
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
			if err != nil {
				err = invalid("the request cannot be read: %v", err)
			} else {
				err = s.cniError(h(r.Context(), body))
			}
			s.requests.observe(path, began, err)
			s.cniAnswer(w, err)
		})
	}
	mux.Handle(api.PathCNIStatus, onlyGet(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.cniAnswer(w, s.cniError(s.config.CNI.Ready()))
	})))
}

func (s *Server) cniAnswer(w http.ResponseWriter, err error) {
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, &api.CNIAnswer{APIVersion: api.Version, Kind: api.KindCNIAnswer, Version: s.config.Self.Version})
}

// cniError gives an error its code.
func (s *Server) cniError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, attach.ErrConflict):
		return newError(http.StatusConflict, api.CodeConflict, "%v", err)
	case errors.Is(err, attach.ErrNoPod):
		return notFound("%v", err)
	case errors.Is(err, attach.ErrNotEnforced):
		return newError(http.StatusServiceUnavailable, api.CodeNotEnforced, "%v", err)
	}
	return err // what is no *failure is an internal error
}

func (s *Server) cniAdd(ctx context.Context, body []byte) error {
	a, r, err := cniRequest(body)
	if err != nil {
		return err
	}
	wait := time.Duration(a.TimeoutMillis) * time.Millisecond
	if wait <= 0 || wait > maxWait {
		wait = maxWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait-wait/10) // the rest is for the answer
	defer cancel()
	return s.config.CNI.Add(ctx, r)
}

func (s *Server) cniCheck(_ context.Context, body []byte) error {
	_, r, err := cniRequest(body)
	if err != nil {
		return err
	}
	return s.config.CNI.Check(r)
}

func (s *Server) cniDelete(_ context.Context, body []byte) error {
	var a api.CNIAttachment
	if err := decodeBody(body, &a); err != nil {
		return err
	}
	if err := named(a.ContainerID, a.IfName); err != nil {
		return err
	}
	return s.config.CNI.Delete(a.ContainerID, a.IfName)
}

func (s *Server) cniCollect(_ context.Context, body []byte) error {
	var list api.CNIAttachmentList
	if err := decodeBody(body, &list); err != nil {
		return err
	}
	for _, i := range list.Items {
		if err := named(i.ContainerID, i.IfName); err != nil {
			return err
		}
	}
	return s.config.CNI.Collect(func(containerID, ifName string) bool {
		return slices.Contains(list.Items, api.CNIAttachmentID{ContainerID: containerID, IfName: ifName})
	})
}

func decodeBody(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return invalid("the request cannot be read: %v", err)
	}
	return nil
}

func named(containerID, ifName string) error {
	switch {
	case containerID == "" || len(containerID) > maxName:
		return invalid("containerID has %d characters: 1 to %d are expected", len(containerID), maxName)
	case ifName == "" || len(ifName) > maxName:
		return invalid("ifName has %d characters: 1 to %d are expected", len(ifName), maxName)
	}
	return nil
}

// cniRequest reads a request of an ADD or a CHECK.
func cniRequest(body []byte) (api.CNIAttachment, attach.Request, error) {
	var a api.CNIAttachment
	if err := decodeBody(body, &a); err != nil {
		return a, attach.Request{}, err
	}
	if err := named(a.ContainerID, a.IfName); err != nil {
		return a, attach.Request{}, err
	}
	if why := utilvalidation.IsDNS1123Label(a.Namespace); len(why) > 0 {
		return a, attach.Request{}, invalid("namespace %q: %s", a.Namespace, why[0])
	}
	if why := utilvalidation.IsDNS1123Subdomain(a.Pod); len(why) > 0 {
		return a, attach.Request{}, invalid("pod %q: %s", a.Pod, why[0])
	}
	if a.PeerIndex <= 0 {
		return a, attach.Request{}, invalid("peerIndex %d: the index of the link's end on the node is expected", a.PeerIndex)
	}
	r := attach.Request{
		ContainerID: a.ContainerID, IfName: a.IfName, Namespace: a.Namespace, Pod: a.Pod, UID: model.ParseUID(a.UID), Index: a.PeerIndex,
	}
	for _, text := range a.Addresses {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" || addr.Is4In6() {
			return a, attach.Request{}, invalid("addresses: %q: an address such as 10.1.0.4 is expected", text)
		}
		r.Addrs = append(r.Addrs, addr)
	}
	if len(r.Addrs) == 0 {
		return a, attach.Request{}, invalid("addresses: none: those of the previous result are expected")
	}
	return a, r, nil
}

// resultOf is what a metric says of how a request ended: ok, or an error's code.
func resultOf(err error) string {
	f := (*failure)(nil)
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &f):
		return f.body.Code
	}
	return api.CodeInternal
}
