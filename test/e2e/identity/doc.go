// Package identity has the end-to-end tests of federated identity: in a lab of
// two clusters with Overland in both, what every agent knows is compared with
// what both API servers say, whatever happened in between.
//
// It may import test/lab/labtest and pkg/admin/api.
package identity
