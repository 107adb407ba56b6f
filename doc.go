// Package aisle is the root of the module: it holds no code, only the tests
// of the rules that the whole repository keeps (see repo_test.go).
package aisle
