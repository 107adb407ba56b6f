//go:build !failpoint

package broker

// failpoint is where a build for the chaos run may die: between storing what
// came of an event and acknowledging it.
func failpoint() {}
