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
)

// filter decides which events a Trigger takes, with Knative's code.
type filter struct {
	knative eventfilter.Filter
	ctx     context.Context // holds a logger that says nothing: Knative's filters log each event
}

// filterError is a filter that cannot be parsed.
type filterError struct {
	path string
	err  error
}

func (e *filterError) Error() string { return e.path + ": " + e.err.Error() }

// newFilter makes a Trigger's filter: of spec.filters, and of spec.filter
// where there are none, as Knative does. Knative leaves a filter out that it
// cannot parse, which would widen the Trigger; here it is an error.
// The caller calls cleanup in the end.
func newFilter(t *eventingv1.Trigger) (*filter, error) {
	f := &filter{ctx: logging.WithLogger(context.Background(), zap.NewNop().Sugar())}
	if len(t.Spec.Filters) == 0 {
		if t.Spec.Filter != nil {
			f.knative = attributes.NewAttributesFilter(t.Spec.Filter.Attributes)
		} else {
			f.knative = subscriptionsapi.NewNoFilter()
		}
		return f, nil
	}
	left := maxFilters
	if err := parseable("spec.filters", t.Spec.Filters, 0, &left); err != nil {
		return nil, err
	}
	f.knative = subscriptionsapi.CreateSubscriptionsAPIFilters(zap.NewNop(), t.Spec.Filters)
	return f, nil
}

// parseable is nil if Knative's code takes each of the filters into account.
func parseable(path string, list []eventingv1.SubscriptionsAPIFilter, depth int, left *int) error {
	if depth == maxFilterDepth {
		return &filterError{path, fmt.Errorf("filters are nested more than %d deep", maxFilterDepth)}
	}
	for i, sub := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		if *left--; *left < 0 {
			return &filterError{path, fmt.Errorf("there are more than %d filters", maxFilters)}
		}
		switch {
		case len(sub.All) > 0:
			if err := parseable(at+".all", sub.All, depth+1, left); err != nil {
				return err
			}
			continue
		case len(sub.Any) > 0:
			if err := parseable(at+".any", sub.Any, depth+1, left); err != nil {
				return err
			}
			continue
		case sub.Not != nil:
			if err := parseable(at+".not", []eventingv1.SubscriptionsAPIFilter{*sub.Not}, depth+1, left); err != nil {
				return err
			}
			continue
		}
		made, err := leaf(sub)
		if err != nil {
			return &filterError{at, err}
		}
		if made == nil {
			return &filterError{at, errors.New("it says nothing: write exact, prefix, suffix, all, any, not or cesql")}
		}
		made.Cleanup()
	}
	return nil
}

// leaf makes a filter without others in it; nil if it is empty. The parser of
// CESQL panics on some of what it is to refuse.
func leaf(sub eventingv1.SubscriptionsAPIFilter) (f eventfilter.Filter, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("it cannot be parsed: %v", v)
		}
	}()
	switch {
	case len(sub.Exact) > 0:
		return subscriptionsapi.NewExactFilter(sub.Exact)
	case len(sub.Prefix) > 0:
		return subscriptionsapi.NewPrefixFilter(sub.Prefix)
	case len(sub.Suffix) > 0:
		return subscriptionsapi.NewSuffixFilter(sub.Suffix)
	case sub.CESQL != "":
		return subscriptionsapi.NewCESQLFilter(sub.CESQL)
	}
	return nil, nil
}

// takes says whether an event passes. An expression that fails on the event,
// or whose value is no boolean, does not let it pass.
func (f *filter) takes(ev ce.Event) (ok bool) {
	defer func() {
		if recover() != nil { // NewCESQLFilter's filter takes any value for a boolean
			ok = false
		}
	}()
	return f.knative.Filter(f.ctx, ev) != eventfilter.FailFilter
}

func (f *filter) cleanup() { f.knative.Cleanup() }
