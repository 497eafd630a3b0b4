// Package deps holds the rules that the repository's Go code keeps, and checks
// them: which package may import what (the table is in table_test.go), that
// every package says what it is for, sizes of files, functions and interfaces,
// and no init functions or mutable package variables. Generated files are
// exempt from sizes. Its test runs the checks over the whole repository, and
// each check over code in testdata that breaks the rule.
//
// It may import nothing of this repository.
package deps
