package cni

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/overland-net/overland/pkg/admin/api"
	"github.com/overland-net/overland/pkg/admin/client"
)

// briefTimeout is for what must not be held up by an agent that is busy or gone:
// the end of a pod, and the runtime's look at the node every few seconds.
const briefTimeout = 2 * time.Second

// retryInterval is between two attempts to reach an agent that is being restarted.
const retryInterval = 100 * time.Millisecond

// plugin serves one call.
type plugin struct {
	stderr io.Writer
	// result is what to print if nothing fails in the end.
	result []byte
}

func (p *plugin) commands() skel.CNIFuncs {
	return skel.CNIFuncs{Add: p.add, Check: p.check, Del: p.del, GC: p.gc, Status: p.status}
}

// add returns when the pod may start: its policies are enforced, or it belongs to
// a namespace that must not wait for an agent that cannot answer.
func (p *plugin) add(args *skel.CmdArgs) error {
	in, err := parseInput(args.StdinData)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), in.timeout())
	defer cancel()
	a, err := in.attachment(ctx, args)
	if err != nil {
		return err
	}
	open := slices.Contains(in.FailOpenNamespaces, a.Namespace)
	if err := askToAdd(ctx, &in, a, open); err != nil {
		name := a.Namespace + "/" + a.Pod
		if refused(err) || !open {
			return tryAgain("pod "+name+" may not start before its policies are enforced", err)
		}
		p.log("pod %s starts although its policies may not be enforced yet, as failOpenNamespaces says: %s", name, explain(err))
	}
	p.result = in.PrevResult
	return nil
}

// askToAdd asks again and again while there is no agent, as while it is restarted:
// the kubelet's own next attempt would come many seconds later, with a new sandbox.
// A pod that may start without an answer waits less for it. Where no agent has run
// since the node's start there are no rules yet, and the sandbox's link is open: it
// must not stay.
func askToAdd(ctx context.Context, in *input, a api.CNIAttachment, open bool) error {
	c := client.New(in.Socket)
	until, _ := ctx.Deadline()
	if brief := time.Now().Add(briefTimeout); open && brief.Before(until) {
		until = brief
	}
	var last error // which says more than that the time is over
	for {
		_, err := c.CNIAdd(ctx, a)
		if err != nil && ctx.Err() != nil && last != nil {
			return last
		}
		if err == nil || !unanswered(err) || !started(in.Socket, err) || time.Now().Add(retryInterval).After(until) {
			return err
		}
		last = err
		time.Sleep(retryInterval)
	}
}

// started tells whether an agent has run since the node's start.
func started(socket string, err error) bool {
	if answer := (*api.Error)(nil); errors.As(err, &answer) {
		return true
	}
	_, err = os.Stat(socket + api.LockSuffix)
	return err == nil
}

// unanswered tells whether there is no agent that could answer, for now.
func unanswered(err error) bool {
	answer := (*api.Error)(nil)
	return !errors.As(err, &answer) || answer.Code == api.CodeStarting || answer.Code == api.CodeBusy
}

// check asks whether the pod's policies are enforced. It fails for pods of every
// namespace alike: it stops nothing.
func (p *plugin) check(args *skel.CmdArgs) error {
	in, err := parseInput(args.StdinData)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), in.timeout())
	defer cancel()
	a, err := in.attachment(ctx, args)
	if err != nil {
		return err
	}
	if _, err := client.New(in.Socket).CNICheck(ctx, a); err != nil {
		return tryAgain("policies of pod "+a.Namespace+"/"+a.Pod+" are not known to be enforced", err)
	}
	return nil
}

// del tells the agent, and never fails: the agent sees by itself that a link is
// gone, and a pod that cannot be deleted helps nobody.
func (p *plugin) del(args *skel.CmdArgs) error {
	in, err := parseInput(args.StdinData)
	if err != nil {
		p.log("DEL of container %s: the agent is not told: %v", args.ContainerID, err)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(briefTimeout, in.timeout()))
	defer cancel()
	a := api.CNIAttachment{ContainerID: args.ContainerID, IfName: args.IfName}
	if _, err := client.New(in.Socket).CNIDelete(ctx, a); err != nil {
		p.log("DEL of container %s: the agent will find out that its link is gone: %s", args.ContainerID, explain(err))
	}
	return nil
}

func (p *plugin) gc(args *skel.CmdArgs) error {
	in, err := parseInput(args.StdinData)
	if err != nil {
		return err
	}
	valid, err := in.valid()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), in.timeout())
	defer cancel()
	if _, err := client.New(in.Socket).CNIGC(ctx, valid); err != nil {
		return tryAgain("the agent does not delete what is gone", err)
	}
	return nil
}

func (p *plugin) status(args *skel.CmdArgs) error {
	in, err := parseInput(args.StdinData)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(briefTimeout, in.timeout()))
	defer cancel()
	if _, err := client.New(in.Socket).CNIStatus(ctx); err != nil {
		// Not ErrLimitedConnectivity: what the kernel holds stays in force.
		return types.NewError(types.ErrPluginNotAvailable, "pods cannot be added now", explain(err))
	}
	return nil
}

func (in *input) timeout() time.Duration { return time.Duration(in.TimeoutSeconds) * time.Second }

// attachment gathers what the agent needs to know.
func (in *input) attachment(ctx context.Context, args *skel.CmdArgs) (api.CNIAttachment, error) {
	addresses, err := in.addresses(args.IfName)
	if err != nil {
		return api.CNIAttachment{}, err
	}
	pod, err := parseArgs(args.Args)
	if err != nil {
		return api.CNIAttachment{}, err
	}
	peer, err := peerIndex(ctx, args.Netns, args.IfName)
	if err != nil {
		return api.CNIAttachment{}, err
	}
	return api.CNIAttachment{
		ContainerID: args.ContainerID, IfName: args.IfName, Netns: args.Netns,
		Namespace: pod.namespace, Pod: pod.name, UID: pod.uid,
		PeerIndex: peer, Addresses: addresses,
	}, nil
}

// refused tells that the agent has decided about this pod. All other errors say
// that it cannot, the codes among them that speak of the agent and not of the pod:
// those are listed, so that one which this version does not know is a decision.
func refused(err error) bool {
	answer := (*api.Error)(nil)
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.Code {
	case api.CodeStarting, api.CodeBusy, api.CodeNotEnforced, api.CodeInternal,
		// From an agent before the first that serves plugins, and to a runtime
		// that does not run as root.
		api.CodeNotAllowed, api.CodeForbidden:
		return false
	}
	return true
}

// tryAgain is for the runtime, and through it for the kubelet, which does so.
func tryAgain(msg string, err error) *types.Error {
	return types.NewError(types.ErrTryAgainLater, msg, explain(err))
}

// explain is the error with what is to be done about it.
func explain(err error) string {
	answer := (*api.Error)(nil)
	if !errors.As(err, &answer) {
		return clipped(err.Error()) // the client's errors say it
	}
	text := "overland-agent answers " + answer.Code + ": " + answer.Message
	switch answer.Code {
	case api.CodeStarting, api.CodeBusy:
		text += ": it is tried again; if that goes on, see `overland status` on the node"
	case api.CodeNotAllowed:
		text += ": is it older than the plugin? Then update the agent"
	case api.CodeForbidden:
		text += ": the container runtime has to run as root"
	default:
		text += ": see the agent's log and `overland status` on the node"
	}
	return clipped(text)
}

// log writes one line for the runtime's log.
func (p *plugin) log(format string, args ...any) {
	_, _ = fmt.Fprintln(p.stderr, PluginType+": "+oneLine(fmt.Sprintf(format, args...)))
}
