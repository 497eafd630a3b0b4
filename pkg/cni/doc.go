// Package cni is the CNI plugin: the last one of a node's list, which lets a pod
// start only when the agent has made the kernel enforce what policies say of it.
// It decides nothing about policies and changes nothing of the network: it looks
// up the link's other end, asks the agent, and passes the result before it on.
//
// It is linked into a small program that the runtime starts for every pod. Of
// this repository it may import pkg/admin/api and pkg/admin/client.
package cni
