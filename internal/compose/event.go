package compose

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/product"
)

// The extension attributes of a category event. Triggers can filter on them.
const (
	extStatus    = "aislestatus" // category.Status
	extFailed    = "failedlegs"  // names, comma separated; absent when none failed
	extCausation = "causationid" // the id of the product event
)

// event answers a product event with a category event, in the same mode.
func (c *Composer) event(w http.ResponseWriter, r *http.Request) error {
	predictions, err := predictionsAsked(r.URL.Query())
	if err != nil {
		return err
	}
	share, err := c.room(r, maxEvent)
	if err != nil {
		return err
	}
	defer share.Release()
	in, structured, err := event.Read(w, r, maxEvent)
	if err != nil {
		return err
	}
	share.Keep(len(in.Data()))
	start := time.Now()
	p, err := event.Product(in)
	if err != nil {
		return err
	}
	res, err := c.Compose(r.Context(), Product{Product: p, JSON: in.Data(), Header: trace(r.Header, in.Extensions()), Event: c.attributes(in), Predictions: predictions})
	if err != nil {
		return err
	}
	out, err := c.reply(in, p, res, time.Now())
	if err != nil {
		return err
	}
	w.Header().Set("Server-Timing", timing(time.Since(start), res.Legs))
	if err := event.Write(w, out, structured); err != nil {
		return err
	}
	c.metrics.products.Inc(string(res.Status))
	return nil
}

// reply makes the category event of an answer about p.
func (c *Composer) reply(in ce.Event, p product.Product, res category.Result, now time.Time) (ce.Event, error) {
	typ := event.TypeCategory
	if res.Review {
		typ = event.TypeReview
		var err error
		if res.Product, err = json.Marshal(p.Bare()); err != nil {
			return ce.Event{}, fmt.Errorf("the product that is to be reviewed: %w", err)
		}
	}
	out, err := event.New(typ, c.source, replyID(in, res), event.SchemaCategory, res)
	if err != nil {
		return out, err
	}
	out.SetTime(now)
	if id := strings.TrimSpace(res.ID); id != "" && !strings.ContainsFunc(id, isControl) {
		out.SetSubject(res.ID)
	}
	out.SetExtension(extStatus, string(res.Status))
	out.SetExtension(extCausation, in.ID())
	var failed []string
	for _, l := range res.Legs {
		if l.Outcome == category.LegFailed && !l.Shadow {
			failed = append(failed, l.Name)
		}
	}
	if failed != nil {
		out.SetExtension(extFailed, strings.Join(failed, ","))
	}
	// The trace goes on, and the order within a partition too.
	for _, name := range []string{"traceparent", "tracestate", "partitionkey"} {
		if v, ok := in.Extensions()[name]; ok {
			out.SetExtension(name, v)
		}
	}
	return out, nil
}

// attributes are those of an event that expressions may be about; nil when
// there are no expressions.
func (c *Composer) attributes(in ce.Event) map[string]string {
	if !c.expressive {
		return nil
	}
	out := map[string]string{"id": in.ID(), "source": in.Source(), "type": in.Type(), "specversion": in.SpecVersion()}
	for name, value := range map[string]string{"subject": in.Subject(), "dataschema": in.DataSchema(), "datacontenttype": in.DataContentType()} {
		if value != "" {
			out[name] = value
		}
	}
	if t := in.Time(); !t.IsZero() {
		out["time"] = t.Format(time.RFC3339Nano)
	}
	for name, value := range in.Extensions() {
		if text, err := types.Format(value); err == nil {
			out[name] = text
		}
	}
	return out
}

// replyID depends on the input's source and id, the composition and the
// models that answered: a redelivery that gets the same answer is a
// duplicate, and one that gets a better answer is not.
func replyID(in ce.Event, res category.Result) string {
	legs := slices.SortedFunc(slices.Values(res.Legs), func(a, b category.Leg) int { return cmp.Compare(a.Name, b.Name) })
	parts := []string{in.Source(), in.ID(), res.Composition.Digest}
	for _, l := range legs {
		if l.Outcome == category.Answered && !l.Shadow {
			parts = append(parts, l.Name, l.Model.Digest)
		}
	}
	return event.ID(parts...)
}

func isControl(r rune) bool { return r < 0x20 || 0x7f <= r && r <= 0x9f }

var traceparent = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// trace gives the W3C trace context for the legs: the request's own, which is
// that of the last hop, or else that of the event.
func trace(h http.Header, extensions map[string]any) http.Header {
	parent, state := h.Get("Traceparent"), strings.Join(h.Values("Tracestate"), ",")
	if parent == "" {
		parent, _ = extensions["traceparent"].(string)
		state, _ = extensions["tracestate"].(string)
	}
	if !traceparent.MatchString(parent) {
		return nil
	}
	out := http.Header{"Traceparent": {parent}}
	if state != "" && len(state) <= 512 && !strings.ContainsFunc(state, func(c rune) bool { return c < 0x20 || c > 0x7e }) {
		out["Tracestate"] = []string{state}
	}
	return out
}
