// Package scale decides how many pods a revision should have.
//
// One [Decider] per revision. Its owner records the revision's load once a
// second, asks for a decision on every [Tick] and whenever a request waits
// while there is no pod, and starts or stops pods until as many run as the
// decision wants. The arithmetic of load is Knative's own autoscaler
// (pkg/autoscaler/scaling over pkg/autoscaler/aggregation, linked, not
// imitated); bounds, the initial scale and the way from one pod to zero, which
// Knative keeps in an unexported reconciler, are [settle], a pure function.
//
// Guarantees:
//   - Time is what the caller says it is. Nothing here reads a clock, starts a
//     goroutine or a timer, logs, or registers a metric.
//   - Want is never below the floor, never above the cap, and never 0 while a
//     request waits, or is being answered by a pod that is not draining; but
//     for a revision that is closed it is the floor. Floor and cap are min-scale and
//     max-scale, or what [Decider.Bound] says for as long as it does.
//   - Zero comes only after the stable window has been without a request and
//     the retention period has passed since.
//
// Annotations that are honoured, all below autoscaling.knative.dev/, with
// Knative's meaning and defaults from config-autoscaler: min-scale, max-scale,
// initial-scale, activation-scale, metric (concurrency, rps), target,
// target-utilization-percentage, window, panic-window-percentage,
// panic-threshold-percentage, scale-down-delay,
// scale-to-zero-pod-retention-period, metric-aggregation-algorithm, class
// (kpa only); and serving.knative.dev/progress-deadline.
// target-burst-capacity is always -1: whoever uses this package keeps its
// proxy in the path of every request, as Knative's activator is at -1.
//
// Because the proxy is always in the path, scale-to-zero-grace-period (the time
// that Knative allows for its activator to get there) has passed as soon as the
// decider is that old; it delays zero only for a young revision. So it is in
// Knative at -1.
//
// Non-goals: choosing a pod for a request, admitting requests, counting them,
// and restarting pods that fail.
package scale

import (
	"time"
)

// Tick is how often a revision that has pods or waiting requests should be
// decided on. Knative ticks every two seconds, because it has many revisions
// and its figures come over the network; here both are near, and with the
// default panic window of a tenth of a short stable window, every second tick
// would miss half of what happened.
const Tick = time.Second

// Revision is what a decider has to know of a revision, and never changes.
type Revision struct {
	Namespace, Name      string
	Annotations          map[string]string // of the revision's template
	ContainerConcurrency int64             // 0: no limit
	// Initialised says that the revision has had its initial scale before, in
	// an earlier life of the process: it is left as idle as it was.
	Initialised bool
}

// Snapshot is how a revision stands.
type Snapshot struct {
	Ready    int // pods that take requests
	Starting int // pods that are started and not yet ready
	InFlight int // requests that pods are answering, draining ones too
	Waiting  int // requests that no pod has yet
	// Unreachable says that no route leads to the revision any more: neither
	// min-scale nor the initial scale keeps its pods.
	Unreachable bool
}

// Bounds are set from outside, in the place of a revision's own min-scale and
// max-scale.
type Bounds struct {
	// Floor is how many pods a revision with a route to it has at least. Where
	// it is above the cap, the cap holds.
	Floor int
	Cap   int // pods at most; 0: no bound
	// Closed is that there are as many pods as Floor says, whatever the load:
	// whoever uses this package refuses the requests that come or wait.
	Closed bool
	By     string // who says so, as Why names it
}

// Decision is how many pods a revision should have.
type Decision struct {
	Want int    // pods, starting and ready ones together; draining ones do not count
	Why  string // one clause, in words for an operator
	// Initialised is true once the initial scale has been reached; keep it with
	// the revision's state for [Revision].Initialised.
	Initialised bool
	// NextCheck is when to decide next even if nothing happens. The zero time:
	// not before the next request.
	NextCheck time.Time
}
