// Package client reads the agent's admin socket. Its errors say what to do.
//
// Of this repository it may import pkg/admin/api.
package client
