// Package e2e tests the lab's clusters from end to end: what a user of real
// clusters on Azure relies on has to hold in the lab, and what the lab offers
// to disturb them has to do so and to heal. Its tests may import test/lab/labtest
// and what that one may import; the package itself imports nothing.
package e2e
