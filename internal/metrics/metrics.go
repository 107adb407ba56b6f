// Package metrics counts what a function does, and says it in Prometheus' text
// format, version 0.0.4
// (https://prometheus.io/docs/instrumenting/exposition_formats/).
//
// It is the little that a function needs of prometheus/client_golang, which
// links protocol buffers: a fifth of the classifier's own bytes, of which every
// cold start on a new node pulls all. What is not pulled by anybody (the engine)
// uses client_golang.
//
// Guarantees: all is safe for concurrent use; what is written is ordered by name
// and label values, and is read back by Prometheus' own parser whatever a label's
// value is; a series without labels is there from the beginning, any other one
// from its first use.
//
// Non-goals: collectors, summaries, native histograms, OpenMetrics, pushing. The
// number of series is not bounded: callers give label values of their own alone,
// never a request's.
package metrics

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
)

// Set is the metrics of one function. It is made with [New].
type Set struct {
	mu       sync.Mutex
	families []*family // guarded by mu; ordered by name
}

// New returns a Set that is empty.
func New() *Set { return &Set{} }

// family is all series of one name.
type family struct {
	name, help, kind string
	labels           []string
	buckets          []float64 // upper bounds, rising; of a histogram

	mu     sync.Mutex
	series map[string]*series // guarded by mu, its values too; by the joined label values
}

type series struct {
	values []string       // of the labels
	value  float64        // of a counter; a histogram's sum
	counts []uint64       // a histogram's, by bucket; the last is above all bounds
	read   func() float64 // a gauge's
}

// add panics when the name is taken or the labels are too many for what follows
// them: mistakes of whoever wrote the call.
func (s *Set) add(f *family) *family {
	f.series = make(map[string]*series)
	if len(f.labels) == 0 && f.kind != "gauge" {
		f.at(nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, taken := slices.BinarySearchFunc(s.families, f.name, func(f *family, name string) int { return strings.Compare(f.name, name) })
	if taken {
		panic(fmt.Sprintf("metrics: %s is there already", f.name))
	}
	s.families = slices.Insert(s.families, i, f)
	return f
}

// at gives the series of label values. It panics when they are not as many as
// the labels.
//
// REQUIRES: f.mu is held, or nobody else has f yet.
func (f *family) at(values []string) *series {
	if len(values) != len(f.labels) {
		panic(fmt.Sprintf("metrics: %s has the labels %q, not %q", f.name, f.labels, values))
	}
	key := strings.Join(values, "\xff") // in no valid text
	one := f.series[key]
	if one == nil {
		one = &series{values: slices.Clone(values)}
		if f.kind == "histogram" {
			one.counts = make([]uint64, len(f.buckets)+1)
		}
		f.series[key] = one
	}
	return one
}

// Counter only rises.
type Counter struct{ f *family }

// Counter adds a counter with these labels.
func (s *Set) Counter(name, help string, labels ...string) Counter {
	return Counter{s.add(&family{name: name, help: help, kind: "counter", labels: labels})}
}

// Inc adds one to the series of these label values.
func (c Counter) Inc(values ...string) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.f.at(values).value++
}

// Gauge is asked when it is read.
type Gauge struct{ f *family }

// Gauge adds a gauge with these labels.
func (s *Set) Gauge(name, help string, labels ...string) Gauge {
	return Gauge{s.add(&family{name: name, help: help, kind: "gauge", labels: labels})}
}

// Func makes read the gauge's series of these label values. Read must not touch
// the gauge.
func (g Gauge) Func(read func() float64, values ...string) {
	g.f.mu.Lock()
	defer g.f.mu.Unlock()
	g.f.at(values).read = read
}

// Remove takes the series of these label values away.
func (g Gauge) Remove(values ...string) {
	g.f.mu.Lock()
	defer g.f.mu.Unlock()
	delete(g.f.series, strings.Join(values, "\xff"))
}

// Histogram counts values by size.
type Histogram struct{ f *family }

// Histogram adds a histogram with these labels and upper bounds, which rise.
func (s *Set) Histogram(name, help string, buckets []float64, labels ...string) Histogram {
	if !slices.IsSorted(buckets) {
		panic(fmt.Sprintf("metrics: %s has the bounds %v, which do not rise", name, buckets))
	}
	return Histogram{s.add(&family{name: name, help: help, kind: "histogram", labels: labels, buckets: buckets})}
}

// Observe counts v in the series of these label values.
func (h Histogram) Observe(v float64, values ...string) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	one := h.f.at(values)
	one.counts[sort.SearchFloat64s(h.f.buckets, v)]++
	one.value += v
}

// ServeHTTP answers with all metrics.
func (s *Set) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	families := slices.Clone(s.families)
	s.mu.Unlock()
	var b []byte
	for _, f := range families {
		b = f.append(b)
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(b) // who asked has gone; there is nobody left to tell
}

func (f *family) append(b []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.series) == 0 {
		return b
	}
	b = fmt.Appendf(b, "# HELP %s %s\n# TYPE %s %s\n", f.name, helpText.Replace(f.help), f.name, f.kind)
	all := make([]*series, 0, len(f.series))
	for _, one := range f.series {
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b *series) int { return slices.Compare(a.values, b.values) })
	for _, one := range all {
		switch f.kind {
		case "histogram":
			var n uint64
			for i, count := range one.counts {
				n += count
				le := math.Inf(1)
				if i < len(f.buckets) {
					le = f.buckets[i]
				}
				b = f.appendSeries(b, "_bucket", one, "le", float(le))
				b = strconv.AppendUint(b, n, 10)
				b = append(b, '\n')
			}
			b = f.appendLine(b, "_sum", one, one.value)
			b = f.appendLine(b, "_count", one, float64(n))
		case "gauge":
			b = f.appendLine(b, "", one, one.read())
		default:
			b = f.appendLine(b, "", one, one.value)
		}
	}
	return b
}

func (f *family) appendLine(b []byte, suffix string, one *series, v float64) []byte {
	return append(append(f.appendSeries(b, suffix, one), float(v)...), '\n')
}

// appendSeries writes a series' name and labels, with more of them, as pairs.
func (f *family) appendSeries(b []byte, suffix string, one *series, more ...string) []byte {
	b = append(append(b, f.name...), suffix...)
	open := byte('{')
	pair := func(label, value string) {
		b = append(append(b, open), label...)
		b = append(append(append(b, `="`...), labelText.Replace(strings.ToValidUTF8(value, "\ufffd"))...), '"')
		open = ','
	}
	for i, label := range f.labels {
		pair(label, one.values[i])
	}
	for i := 0; i < len(more); i += 2 {
		pair(more[i], more[i+1])
	}
	if open == ',' {
		b = append(b, '}')
	}
	return append(b, ' ')
}

// What the format escapes in either place.
var (
	helpText  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelText = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// float writes a number as the format has it: infinities as +Inf and -Inf.
func float(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
