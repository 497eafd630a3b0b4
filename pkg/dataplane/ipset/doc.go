// Package ipset makes, fills, reads and removes the kernel's sets, over netlink:
// thousands of elements a message, idempotent, and errors that name the set and
// the element. It knows the types hash:ip, hash:net and hash:ip,port.
//
// It may import pkg/model, pkg/desired and pkg/dataplane/nfnl.
package ipset
