// Package unlisted has no row in the table. It may
// import nothing.
package unlisted

type wide interface {
	narrow
	A()
	B()
	C()
	D()
	E()
}

type narrow interface {
	F()
	G()
}
