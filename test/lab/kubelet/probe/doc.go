// Package probe asks containers how they are: what one probe says (exec,
// httpGet, tcpSocket, grpc), and what a run of answers means under a probe's
// thresholds. It may import nothing of this repository.
package probe
