// Package api is what the agent's admin socket says: JSON types, stable within
// a version. A field is never renamed or given another meaning; new fields are
// added, so a reader ignores what it does not know. Times are RFC 3339 in UTC;
// each has its age beside it in whole seconds by the agent's clock, so that a
// reader with another clock is not misled. docs/reference-admin.md describes
// the same for people.
//
// It may import nothing of this repository.
package api
