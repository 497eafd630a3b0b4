// Package conntrack finds tracked connections by the addresses of their ends,
// and resets bits of their marks or deletes them, over netlink.
//
// It may import pkg/dataplane/nfnl.
package conntrack
