package cli

import (
	"fmt"
	"time"

	"aisle.dev/aisle/cmd/aisle/internal/delivery"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/category"
)

// maxFailures bounds how many failures are kept to be listed at the end.
const maxFailures = 1000

// failure is one product without a category.
type failure struct {
	Product string `json:"product"` // id, or line-N
	Line    int    `json:"line,omitempty"`
	Reason  string `json:"reason"`
}

// tally counts what became of the products.
type tally struct {
	Products    int       `json:"products"` // answered and failed
	Categorised int       `json:"categorised"`
	Accepted    int       `json:"accepted,omitempty"` // by a broker: their answers go elsewhere
	Partial     int       `json:"partial"`            // of those categorised: a leg failed
	Cold        int       `json:"cold"`               // of those categorised: waited for a pod to start
	Retried     int       `json:"retried"`            // took more than one attempt
	Failed      int       `json:"failed"`
	Seconds     float64   `json:"seconds"`
	PerSecond   float64   `json:"perSecond"`
	Interrupted bool      `json:"interrupted,omitempty"`
	Failures    []failure `json:"failures"` // the first 1,000 of them

	start time.Time
}

func newTally() *tally { return &tally{start: time.Now(), Failures: []failure{}} }

func (t *tally) add(a delivery.Answer) {
	t.Products++
	if a.Attempts > 1 {
		t.Retried++
	}
	if a.Err != nil {
		t.Failed++
		if len(t.Failures) < maxFailures {
			t.Failures = append(t.Failures, failure{a.Item.Key(), a.Item.Line, a.Err.Error()})
		}
		return
	}
	if a.Accepted {
		t.Accepted++
		return
	}
	t.Categorised++
	if a.Result.Status == category.Partial {
		t.Partial++
	}
	if a.ColdMs() > 0 {
		t.Cold++
	}
}

func (t *tally) stop() {
	t.Seconds = time.Since(t.start).Seconds()
	if t.Seconds > 0 {
		t.PerSecond = float64(t.Products) / t.Seconds
	}
}

// sentence sums up: "24 products in 1.2s (20/s): 24 categorised, 3 after a cold start".
func (t *tally) sentence() string {
	s := fmt.Sprintf("%s in %s (%.0f/s): ", plural(t.Products, "product"), screen.Short(time.Duration(t.Seconds*float64(time.Second))), t.PerSecond)
	if t.Accepted > 0 {
		s += screen.Thousands(t.Accepted) + " accepted"
	}
	if t.Accepted > 0 && t.Categorised > 0 {
		s += ", "
	}
	if t.Accepted == 0 || t.Categorised > 0 {
		s += screen.Thousands(t.Categorised) + " categorised"
	}
	for _, part := range []struct {
		n    int
		what string
	}{{t.Partial, "with a failed leg"}, {t.Cold, "after a cold start"}, {t.Retried, "tried more than once"}} {
		if part.n > 0 {
			s += fmt.Sprintf(", %s %s", screen.Thousands(part.n), part.what)
		}
	}
	if t.Failed > 0 {
		s += fmt.Sprintf("; %s failed", screen.Thousands(t.Failed))
	}
	return s
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return screen.Thousands(n) + " " + what
}

// shownFailures is how many are listed for people.
const shownFailures = 20

// listFailures lists them on standard error.
func (a *app) listFailures(t *tally) {
	for i, f := range t.Failures {
		if i == shownFailures {
			a.err.Printf("  and %s more\n", screen.Thousands(t.Failed-shownFailures))
			return
		}
		a.err.Printf("  %s %s: %s\n", a.err.Paint(screen.Red, "failed"), screen.Cut(f.Product, 60), screen.Clean(f.Reason))
	}
}

// outcome is the error that a finished run ends with.
func (t *tally) outcome() error {
	if t.Failed > 0 {
		return &exit{SomeFailed, nil}
	}
	return nil
}
