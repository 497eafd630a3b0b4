// Command overland-agent is the node daemon: it learns the endpoints of its own
// cluster and of every linked one, and answers questions about them on a local
// socket. Here it is only put together: flags and file to Config, then
// constructors. It may import any package under pkg.
package main
