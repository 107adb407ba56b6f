package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"aisle.dev/aisle/internal/category"
)

// predict sends one product as plain JSON and waits for a result that holds
// all that each leg said: an event's answer holds each leg's best label alone.
func (p *Poster) predict(ctx context.Context, body []byte) Answer {
	q := *p
	q.To = p.To.JoinPath("category", "predict")
	q.To.RawQuery = url.Values{"predictions": {"all"}}.Encode()
	r := q.exchange(ctx, http.Header{"Content-Type": {"application/json"}}, body)
	a := Answer{Err: r.err, Attempts: r.attempts}
	if r.err != nil {
		return a
	}
	a.Wake = Wake(r.header)
	if err := json.Unmarshal(r.data, &a.Result); err != nil {
		a.Err = &fatal{fmt.Errorf("%s answers, but not with categories: is it the composer? (%w)", q.To, errors.Join(ErrUnreachable, err))}
		return a
	}
	for _, leg := range a.Result.Legs {
		if leg.Outcome == category.Answered && len(leg.Predictions) == 0 {
			a.Err = &fatal{fmt.Errorf("%s does not say what its legs predict: is it a composer of this version? (%w)", q.To, ErrUnreachable)}
		}
	}
	if a.Err == nil && a.Result.Category == nil {
		a.Err = NoCategory(a.Result)
	}
	return a
}
