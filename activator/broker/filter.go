package broker

import (
	"context"
	"errors"
	"fmt"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"go.uber.org/zap"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/eventfilter"
	"knative.dev/eventing/pkg/eventfilter/attributes"
	"knative.dev/eventing/pkg/eventfilter/subscriptionsapi"
	"knative.dev/pkg/logging"
)

// Bounds of a Trigger's filters.
const (
	maxFilterDepth = 16
	maxFilters     = 1000
	maxExpression  = 4096 // bytes of a CESQL expression, whose parser recurses
)

// filter says which events a Trigger takes.
type filter func(context.Context, ce.Event) bool

// filterError is a filter that cannot be parsed.
type filterError struct {
	path string
	err  error
}

func (e *filterError) Error() string { return e.path + ": " + e.err.Error() }

// newFilter makes a Trigger's filter: of spec.filters, and of spec.filter
// where there are none, as Knative does. Knative leaves a filter out that it
// cannot parse, which would widen the Trigger; here it is an error.
//
// The dialects are Knative's code, but for all, any and not: Knative's reorder
// their members in goroutines of their own, which are not free of races.
func newFilter(t *eventingv1.Trigger) (filter, error) {
	var f filter
	var err error
	switch {
	case len(t.Spec.Filters) > 0:
		if err = bounded(t); err == nil {
			f, err = all("spec.filters", t.Spec.Filters)
		}
		if err != nil {
			return nil, err
		}
	case t.Spec.Filter != nil:
		f = knative(attributes.NewAttributesFilter(t.Spec.Filter.Attributes))
	default:
		f = func(context.Context, ce.Event) bool { return true }
	}
	return func(ctx context.Context, ev ce.Event) (ok bool) {
		defer func() {
			if recover() != nil { // Knative's CESQL filter takes any value for a boolean
				ok = false
			}
		}()
		return f(ctx, ev)
	}, nil
}

// takes says whether an event passes. An expression that fails on the event,
// or whose value is no boolean, does not let it pass.
func (f filter) takes(ev ce.Event) bool { return f(quiet, ev) }

// quiet holds a logger that says nothing: Knative's filters log each event.
var quiet = logging.WithLogger(context.Background(), zap.NewNop().Sugar())

func knative(f eventfilter.Filter) filter {
	return func(ctx context.Context, ev ce.Event) bool { return f.Filter(ctx, ev) != eventfilter.FailFilter }
}

// bounded is nil if a Trigger's filters are no larger than may be parsed.
func bounded(t *eventingv1.Trigger) error {
	left := maxFilters
	var walk func(path string, list []eventingv1.SubscriptionsAPIFilter, depth int) error
	walk = func(path string, list []eventingv1.SubscriptionsAPIFilter, depth int) error {
		if left -= len(list); left < 0 {
			return &filterError{path, fmt.Errorf("there are more than %d filters", maxFilters)}
		}
		if depth == maxFilterDepth && len(list) > 0 {
			return &filterError{path, fmt.Errorf("filters are nested more than %d deep", maxFilterDepth)}
		}
		for i, sub := range list {
			at := fmt.Sprintf("%s[%d]", path, i)
			if len(sub.CESQL) > maxExpression {
				return &filterError{at + ".cesql", fmt.Errorf("it is %d bytes long; at most %d are read", len(sub.CESQL), maxExpression)}
			}
			err := errors.Join(walk(at+".all", sub.All, depth+1), walk(at+".any", sub.Any, depth+1))
			if sub.Not != nil {
				err = errors.Join(err, walk(at+".not", []eventingv1.SubscriptionsAPIFilter{*sub.Not}, depth+1))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return walk("spec.filters", t.Spec.Filters, 0)
}

func all(path string, list []eventingv1.SubscriptionsAPIFilter) (filter, error) {
	members, err := compile(path, list)
	return func(ctx context.Context, ev ce.Event) bool {
		for _, f := range members {
			if !f(ctx, ev) {
				return false
			}
		}
		return true
	}, err
}

func compile(path string, list []eventingv1.SubscriptionsAPIFilter) ([]filter, error) {
	members := make([]filter, len(list))
	for i, sub := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		var err error
		switch {
		case len(sub.All) > 0:
			members[i], err = all(at+".all", sub.All)
		case len(sub.Any) > 0:
			var among []filter
			among, err = compile(at+".any", sub.Any)
			members[i] = func(ctx context.Context, ev ce.Event) bool {
				for _, f := range among {
					if f(ctx, ev) {
						return true
					}
				}
				return false
			}
		case sub.Not != nil:
			var inner filter
			inner, err = all(at+".not", []eventingv1.SubscriptionsAPIFilter{*sub.Not})
			members[i] = func(ctx context.Context, ev ce.Event) bool { return !inner(ctx, ev) }
		default:
			if members[i], err = leaf(sub); err != nil {
				err = &filterError{at, err}
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return members, nil
}

// leaf makes a filter without others in it. The parser of CESQL panics on some
// of what it is to refuse.
func leaf(sub eventingv1.SubscriptionsAPIFilter) (f filter, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("it cannot be parsed")
		}
	}()
	var k eventfilter.Filter
	switch {
	case len(sub.Exact) > 0:
		k, err = subscriptionsapi.NewExactFilter(sub.Exact)
	case len(sub.Prefix) > 0:
		k, err = subscriptionsapi.NewPrefixFilter(sub.Prefix)
	case len(sub.Suffix) > 0:
		k, err = subscriptionsapi.NewSuffixFilter(sub.Suffix)
	case sub.CESQL != "":
		k, err = subscriptionsapi.NewCESQLFilter(sub.CESQL)
	default:
		err = errors.New("it says nothing: write exact, prefix, suffix, all, any, not or cesql")
	}
	return knative(k), err
}
