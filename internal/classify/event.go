package classify

import (
	"net/http"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/preprocess"
	"aisle.dev/aisle/internal/problem"
)

// event answers POST / with a prediction event.
func (c *Classifier) event(w http.ResponseWriter, r *http.Request) error {
	if c.prep == nil {
		return problem.New(http.StatusUnprocessableEntity, "this model reads no products: it serves tensors only; see /v2/models/%s", c.pkg.Spec.Name)
	}
	top, err := topOf(r.URL.Query())
	if err != nil {
		return err
	}
	var t timing
	in, structured, id, s, err := c.readEvent(w, r, &t)
	if err != nil {
		return err
	}
	p, err := c.ask(r.Context(), s, &t)
	if err != nil {
		return err
	}
	// The same input and the same model give the same id, so that a
	// redelivery can be told from a second answer.
	out, err := event.New(event.TypePrediction, "/aisle/classifier/"+c.pkg.Spec.Name, event.ID(in.Source(), in.ID(), c.pkg.Digest), "", c.result(id, p, top))
	if err != nil {
		return err
	}
	if id != "" {
		out.SetSubject(id)
	}
	out.SetTime(time.Now().UTC())
	out.SetExtension("causationid", in.ID())
	w.Header().Set("Server-Timing", t.header())
	return event.Write(w, out, structured)
}

// readEvent reads an event, and makes a sample of its product.
func (c *Classifier) readEvent(w http.ResponseWriter, r *http.Request, t *timing) (in ce.Event, structured bool, id string, s preprocess.Sample, err error) {
	ctx := r.Context()
	share, err := c.bodies.Take(ctx, r, c.maxBody)
	if err != nil {
		return in, false, "", nil, err
	}
	defer share.Release()
	if in, structured, err = event.Read(w, r, c.maxBody); err != nil {
		return in, false, "", nil, err
	}
	s, err = c.onCore(ctx, t, func() (preprocess.Sample, error) {
		p, err := event.Product(in)
		if err != nil {
			return nil, err
		}
		id = p.ID
		return c.prep.Product(ctx, p)
	})
	return in, structured, id, s, err
}
