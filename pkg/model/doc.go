// Package model is the vocabulary of facts: what is true in the linked clusters,
// as values. A fact is immutable once it has been handed on; a Change without a
// value says that the fact is gone. Nothing here knows where a fact came from.
//
// It is pure and may import nothing of this repository.
package model
