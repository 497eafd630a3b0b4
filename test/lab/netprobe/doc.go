// Package netprobe is the lab's probe program: servers that say whom they saw
// (TCP, UDP, SCTP, HTTP), and a client that asks many targets at once and
// reports for each whether it answered, what the server saw, and if not, in
// which way it failed. It runs in pods, on nodes and outside.
//
// SCTP is done on raw sockets, as the kernels that the lab runs on need not
// have the protocol: the client sends an INIT chunk, the server answers with
// an INIT-ACK, and no association is ever made. Checksums and verification
// tags are right, so that connection tracking accepts the packets.
//
// It may import no package of this repository; outside it, cobra, logrus,
// x/sync, x/sys.
package netprobe
