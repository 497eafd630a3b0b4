// Package nfnl speaks netlink with the kernel's netfilter subsystems: messages
// written in batches into one buffer, answers matched to requests, dumps of any
// length, deadlines. It knows nothing of what the messages mean.
//
// It is over mdlayher/netlink for the socket and its options, and reads and
// writes by itself: that library's receive path drops what the kernel sends with
// an error, and ipset names the guilty element there.
//
// It may import nothing of this repository.
package nfnl
