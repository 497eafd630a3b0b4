// Package worlds makes small clusters up, and says who may talk to whom there: the
// truth that the product is compared with. A World is Kubernetes objects of two
// or three clusters and the configuration of their agents; Random makes one that
// is small but nasty, Mutate changes one thing of it, Shrink takes away whatever
// a failure does not need, String prints the rest.
//
// Allowed is the oracle. It is slow, obvious, and written from the specification
// and the documentation of the Kubernetes API, never from the code: it reads the
// objects as they are and shares nothing with what it judges. The numbers in its
// comments are those of the semantics.
//
// Facts is how an agent sees a World, read by the decoder of pkg/source; Objects
// is what to create in a lab, and Bind puts what came of it back into the World.
//
// Objects in a World are never changed: Worlds share them.
//
// It may import pkg/model and pkg/source.
package worlds
