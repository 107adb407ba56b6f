//go:build !failpoint

package broker

// failpoint is where a build for the chaos run may die.
func failpoint(string) {}
