// Package acceptance tests a place where Aisle runs through what its users
// have: services' URLs and the command line's client.
//
// The same tests are meant for the engine and for a real cluster: they speak to
// the place interface, and those that only make sense on one machine call
// engineOnly with the reason. On the engine, everything is real: the engine is
// a process of its own (built with -race when the tests are), and so are its
// pods (./fixture, which behaves well or badly as asked, and the title
// classifier).
//
// A few tests stop a part of a cluster that was made for the suite. They do not
// run in parallel, so that they come first and the others find it whole.
//
// Guarantees: tests wait for conditions, each for a bounded time; no process
// outlives the suite, which is itself a test; the engine leaks no goroutine.
// Non-goals: timing. hack/bench takes figures.
package acceptance
