package delivery_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"aisle.dev/aisle/cmd/aisle/internal/composertest"
	"aisle.dev/aisle/cmd/aisle/internal/delivery"
)

func TestDistributions(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler http.Handler
		body    string
		want    string // part of the error
		fatal   bool
	}{
		{"all that a leg predicts", &composertest.Composer{}, `{"title":"Red shirt"}`, "", false},
		{"a product that is refused", &composertest.Composer{}, `{"title":"refuse it"}`, "this product is refused", false},
		{"a composer that says the best alone", http.HandlerFunc(best), `{"title":"Red shirt"}`, "does not say what its legs predict", true},
		{"no composer", answer(`<html>`), `{"title":"a"}`, "is it the composer?", true},
		{"nothing at the path", http.NotFoundHandler(), `{"title":"a"}`, "404", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := poster(t, tt.handler)
			p.Distributions = true
			a := p.Post(t.Context(), "1", "", []byte(tt.body))
			if tt.want == "" {
				if a.Err != nil || len(a.Result.Legs) == 0 || len(a.Result.Legs[0].Predictions) != 3 {
					t.Errorf("error %v, legs %+v", a.Err, a.Result.Legs)
				}
				return
			}
			if a.Err == nil || !strings.Contains(a.Err.Error(), tt.want) || errors.Is(a.Err, delivery.ErrUnreachable) != tt.fatal {
				t.Errorf("error %v, want one with %q", a.Err, tt.want)
			}
		})
	}
}

// best is a composer that knows no ?predictions.
func best(w http.ResponseWriter, r *http.Request) {
	r.URL.RawQuery = ""
	new(composertest.Composer).ServeHTTP(w, r)
}

func answer(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
}
