// Package lifecycle tests how a lab comes up, is refused, crashes, is repaired
// and goes away, and that it leaves nothing on the machine. Its tests start
// labs of their own through the command line. It may import nothing of this
// repository but in its tests.
package lifecycle
