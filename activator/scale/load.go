package scale

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"knative.dev/serving/pkg/apis/autoscaling"
	"knative.dev/serving/pkg/autoscaler/aggregation"
	asconfig "knative.dev/serving/pkg/autoscaler/config"
)

// buckets averages what was recorded over a window; Knative has a plain and a
// weighted kind.
type buckets interface {
	Record(now time.Time, value float64)
	WindowAverage(now time.Time) float64
}

func newBuckets(window time.Duration, algorithm string) buckets {
	switch algorithm {
	case autoscaling.MetricAggregationAlgorithmWeightedExponential, autoscaling.MetricAggregationAlgorithmWeightedExponentialAlt:
		return aggregation.NewWeightedFloat64Buckets(window, asconfig.BucketSize)
	}
	return aggregation.NewTimedFloat64Buckets(window, asconfig.BucketSize)
}

// maxLoad keeps one absurd record from making every later sum infinite.
const maxLoad = 1e9

// load is one revision's metric over both windows. It is the MetricClient of
// Knative's scaler.
type load struct {
	rps           bool
	stable, panic buckets
	window, burst time.Duration

	// told is what a wake-up has recorded ahead of the second's own record,
	// which would count the same requests again.
	told float64
	// The second that was recorded in last, and all that was recorded in it.
	second time.Time
	sum    float64

	// What the scaler was told last, for Why.
	overWindow, overBurst float64
}

func newLoad(metric string, window, burst time.Duration, algorithm string) *load {
	return &load{
		rps:    metric == autoscaling.RPS,
		stable: newBuckets(window, algorithm), panic: newBuckets(burst, algorithm),
		window: window, burst: burst,
	}
}

func (l *load) record(now time.Time, concurrency, requestsPerSecond float64) {
	v := concurrency
	if l.rps {
		v = requestsPerSecond
	}
	if !(v > 0) { // also what is no number
		v = 0
	}
	v = max(0, min(v, maxLoad)-l.told)
	l.told = 0
	l.add(now, v)
}

// wake counts requests that wait at zero at once, so that the scaler sees them
// before the second is over.
func (l *load) wake(now time.Time, waiting float64) {
	known := 0.0
	if now.Truncate(asconfig.BucketSize).Equal(l.second) {
		known = l.sum
	}
	if missing := waiting - known; missing > 0 {
		l.add(now, missing)
		l.told += missing
	}
}

func (l *load) add(now time.Time, v float64) {
	if second := now.Truncate(asconfig.BucketSize); !second.Equal(l.second) {
		l.second, l.sum = second, 0
	}
	l.sum += v
	l.stable.Record(now, v)
	l.panic.Record(now, v)
}

// averages are the metric over the stable and the panic window. No data is no
// load, as it is in Knative where its activator counts every request.
func (l *load) averages(now time.Time) (stable, burst float64, err error) {
	l.overWindow, l.overBurst = l.stable.WindowAverage(now), l.panic.WindowAverage(now)
	return l.overWindow, l.overBurst, nil
}

// StableAndPanicConcurrency and StableAndPanicRPS are Knative's MetricClient;
// the scaler asks for the one that the revision is scaled on.
func (l *load) StableAndPanicConcurrency(_ types.NamespacedName, now time.Time) (stable, burst float64, err error) {
	return l.averages(now)
}

// StableAndPanicRPS is described at StableAndPanicConcurrency.
func (l *load) StableAndPanicRPS(_ types.NamespacedName, now time.Time) (stable, burst float64, err error) {
	return l.averages(now)
}

func (l *load) describe(target float64) string {
	if l.overWindow == 0 && l.overBurst == 0 {
		return fmt.Sprintf("no requests for %v", l.window)
	}
	what := "requests at once"
	if l.rps {
		what = "requests a second"
	}
	return fmt.Sprintf("%.3g %s over %v, %.3g over %v, target %.3g a pod", l.overWindow, what, l.window, l.overBurst, l.burst, target)
}
