// Command cluster runs a real one-node Kubernetes with a real Knative on this
// machine, for tests: `make cluster-up`, `cluster-status`, `cluster-down`.
//
// Kubernetes' parts are one binary (components/hyper), Knative's controllers
// are pods from their own YAML, containers are containerd's and runc's. All of
// it is built from Go modules and Debian packages; there is no registry.
//
// The parts of the node are children of one background process, the keeper
// (`cluster node`), in a network namespace that has no name and so ends with
// them. They die with the keeper (parent-death signal); one that ends by itself
// is started again. Everything else that a node leaves on a machine (mounts,
// cgroups, sysctls, containers, files in fixed places) is found by what only
// this node can have written, and [sweep] takes it away: when the cluster goes
// down, and before one comes up, so that a run that was killed anywhere is
// recovered by the next.
//
// Guarantees: one harness at a time changes the cluster (flock, which no child
// inherits), and no other while e2e runs the suite on it; every wait is for a
// condition and bounded; a process is signalled only if it still has the start
// time that was recorded for it; `up` twice is `up` once.
//
// Non-goals: more than one node, more than one cluster on a machine, safety
// against other users of the machine, and any use but tests.
package main
