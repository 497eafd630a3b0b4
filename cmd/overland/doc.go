// Command overland is the program for people: it asks the agent of this node, or
// of another one through the API server, and links clusters. It decides nothing
// about them: what it shows is the agent's answer, and what it links is done by
// pkg/connect. Every command's exit status is one of those in exit.go.
//
// Of this repository it may import everything below pkg.
package main
