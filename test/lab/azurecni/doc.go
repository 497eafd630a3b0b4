// Package azurecni is the lab's emulation of Azure's CNI plugin, `azure-vnet`
// in transparent mode with node-subnet address management: what it leaves in
// the kernel (names, MAC addresses, routes, neighbours, sysctls), the order in
// which it does so, and the result it prints are those of the real plugin, so
// that whatever is chained after it or reads its traces meets the same facts.
//
// It deviates where the lab must: addresses come from a range in the conflist
// instead of from the Azure fabric, and duplicate address detection is off on
// both ends of the veth pair. The real plugin leaves it on, so that a pod's
// IPv6 address is tentative for about a second; the lab's tests want pods that
// answer at once, and the fabric hands out each address only once.
//
// It may import no package of this repository; outside it,
// containernetworking/cni, vishvananda/netlink and netns, logrus, x/sys.
package azurecni
