package azurecni

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"
)

// Main runs the plugin for one CNI call: the command in the environment, the
// configuration on stdin, the result or the error as JSON on stdout, one log
// line on stderr. After an error it ends the process with status 1.
func Main() {
	logger := logrus.New() // its output is stderr
	p := &plugin{log: logger.WithField("plugin", PluginType)}
	skel.PluginMainFuncs(skel.CNIFuncs{Add: p.add, Del: p.del, Check: p.check},
		// The real binary claims these; a conflist of 1.1.0 is refused by both.
		version.PluginSupports("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"),
		"CNI plugin azure-vnet (the lab's emulation, transparent mode)")
}

// plugin answers CNI calls; it is safe for concurrent use, since what calls
// share is in files and in the kernel.
type plugin struct {
	log *logrus.Entry
}

// add connects a pod. Whatever it did is undone if a later step fails.
func (p *plugin) add(args *skel.CmdArgs) (err error) {
	ctx := context.Background() // a CNI call has no deadline of its own; its caller kills it
	conf, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	hostVeth, err := hostVethOf(args)
	if err != nil {
		return err
	}
	w, err := openWiring(args.Netns, hostVeth, args.IfName)
	if err != nil {
		return err
	}
	defer w.close()
	// Before anything is changed: an interface that is there belongs to an
	// earlier ADD, whose address and veth must survive this failure.
	if err := w.checkPodIsBare(); err != nil {
		return err
	}
	ipam, key := newIPAM(conf.IPAM), allocationKey(args.ContainerID, args.IfName)
	got, err := ipam.allocate(ctx, key, hostVeth)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = rollback(err, w.removeHostVeth, func() error { return ipam.release(ctx, key) })
		}
	}()
	leases, err := conf.leases(got)
	if err != nil {
		return err
	}
	mac, err := w.connect(conf.Master, leases)
	if err != nil {
		return fmt.Errorf("connect %s: %w", hostVeth, err)
	}
	if err := types.PrintResult(result(args.IfName, mac, leases), conf.CNIVersion); err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	p.log.WithFields(logrus.Fields{"container": args.ContainerID, "veth": hostVeth, "addresses": got.Addresses}).Info("pod connected")
	return nil
}

// rollback runs the steps that undo a failed call and adds their errors to
// the failure's. A CNI error keeps its code.
func rollback(failure error, steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			failure = fmt.Errorf("%w (undoing it also failed: %w)", failure, err)
		}
	}
	return failure
}

// del disconnects a pod: it removes the host routes and frees the addresses.
// The veth is left to die with the pod's namespace, as on Azure. It is fine
// if anything, or everything, is gone already.
func (p *plugin) del(args *skel.CmdArgs) error {
	ctx := context.Background()
	conf, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	ipam, key := newIPAM(conf.IPAM), allocationKey(args.ContainerID, args.IfName)
	got, ok, err := ipam.find(ctx, key)
	if err != nil || !ok {
		return err
	}
	// The address is freed last: until its route is gone it must not be given away.
	if err := removeHostRoutes(got.HostVeth, got.Addresses); err != nil {
		return err
	}
	if err := ipam.release(ctx, key); err != nil {
		return err
	}
	p.log.WithFields(logrus.Fields{"container": args.ContainerID, "veth": got.HostVeth, "addresses": got.Addresses}).Info("pod disconnected")
	return nil
}

// check reports whether what add made is still there.
func (p *plugin) check(args *skel.CmdArgs) error {
	conf, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	got, ok, err := newIPAM(conf.IPAM).find(context.Background(), allocationKey(args.ContainerID, args.IfName))
	if err != nil {
		return err
	}
	if !ok {
		return types.NewError(types.ErrUnknownContainer, "container "+args.ContainerID+" has no address", conf.IPAM.StateFile)
	}
	w, err := openWiring(args.Netns, got.HostVeth, args.IfName)
	if err != nil {
		return err
	}
	defer w.close()
	return w.verify(got.Addresses)
}

// lease is an address with the range that it is from.
type lease struct {
	addr netip.Addr
	from Range
}

// leases joins an allocation with the configuration's ranges.
func (c netConf) leases(a allocation) ([]lease, error) {
	var leases []lease
	for _, addr := range a.Addresses {
		found := false
		for _, r := range c.IPAM.Ranges {
			if r.contains(addr) {
				leases, found = append(leases, lease{addr, r}), true
			}
		}
		if !found {
			return nil, fmt.Errorf("address %s, allocated earlier, is in no range of the configuration", addr)
		}
	}
	return leases, nil
}

// result has the shape of the real plugin's: the pod's interface with its MAC
// and nothing of the host's, and addresses that point at no interface.
func result(ifName string, mac net.HardwareAddr, leases []lease) *current.Result {
	r := &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: []*current.Interface{{Name: ifName, Mac: mac.String()}},
	}
	for _, l := range leases {
		ip := &current.IPConfig{Address: *ipNet(l.from.prefix(l.addr))}
		if gw := l.from.gateway(); gw.IsValid() {
			ip.Gateway = gw.AsSlice()
			r.Routes = append(r.Routes, &types.Route{Dst: *ipNet(defaultOf(l.addr)), GW: gw.AsSlice()})
		}
		r.IPs = append(r.IPs, ip)
	}
	return r
}

// openNetns opens the pod's network namespace.
func openNetns(path string) (netns.NsHandle, error) {
	ns, err := netns.GetFromPath(path)
	if errors.Is(err, os.ErrNotExist) {
		return netns.None(), types.NewError(types.ErrUnknownContainer, "network namespace "+path+" does not exist", "")
	}
	if err != nil {
		return netns.None(), types.NewError(types.ErrInvalidNetNS, "open network namespace "+path, err.Error())
	}
	return ns, nil
}
