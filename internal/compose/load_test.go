package compose

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/metrics"
	"aisle.dev/aisle/internal/serve"
)

func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		set := metrics.New()
		c, err := New(Options{Composition: w.spec, Transport: w.transport, MaxInFlight: 1, Metrics: set})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		h := c.Handler()
		entered, release := make(chan struct{}), make(chan struct{})
		w.title.before = func(http.ResponseWriter, *http.Request, int) bool {
			close(entered)
			<-release
			return false
		}
		first := make(chan int)
		go func() { first <- post(h, "/category/predict", shirt).Code }()
		<-entered
		rec := post(h, "/category/predict", shirt)
		if rec.Code != 503 || rec.Header().Get("Retry-After") != "1" {
			t.Errorf("%d %v", rec.Code, rec.Header())
		}
		close(release)
		if code := <-first; code != 200 {
			t.Errorf("the first one got %d", code)
		}
		scraped := httptest.NewRecorder()
		set.ServeHTTP(scraped, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(scraped.Body)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := f.GetName()
				for _, l := range m.GetLabel() {
					if l.GetValue() != "" { // empty: as if it were not there
						name += " " + l.GetValue()
					}
				}
				got[name] += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		want := map[string]float64{
			"aisle_composer_products_total complete":           1,
			"aisle_composer_products_total overload":           1,
			"aisle_composition_file_differs":                   0,
			"aisle_composer_product_duration_seconds":          1,
			"aisle_composer_leg_requests_total title answered": 1,
			"aisle_composer_leg_requests_total photo answered": 1,
			"aisle_composer_leg_duration_seconds title":        1,
			"aisle_composer_leg_duration_seconds photo":        1,
			"aisle_composer_in_flight":                         0,
			"aisle_composer_breaker_state title":               0,
			"aisle_composer_breaker_state photo":               0,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// Large bodies are held as many at a time as there is room for; others pass.
func TestFewLargeBodiesAtOnce(t *testing.T) {
	large := `{"title":"shirt","images":[{"data":"` + strings.Repeat("A", 400<<10) + `"}]}`
	asEvent := []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", event.TypeProduct}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, strings.Replace(twoLegs, "service: title}", "service: title, reads: [title]}", 1))
		w.bodies = serve.NewBudget(1 << 20)
		h := w.Handler()
		release := make(chan struct{})
		w.title.before = func(http.ResponseWriter, *http.Request, int) bool { <-release; return false }
		const sent, fit = 4, 2
		codes := make(chan int)
		for i := range sent {
			if i%2 == 0 {
				go func() { codes <- post(h, "/category/predict", large).Code }()
			} else {
				go func() { codes <- post(h, "/", large, asEvent...).Code }()
			}
		}
		synctest.Wait()
		if n := len(w.title.requests()); n != fit {
			t.Errorf("%d are held at once, want %d", n, fit)
		}
		for range 3 { // of unknown length, and then found to be small
			go func() {
				r := httptest.NewRequest(http.MethodPost, "/category/predict", strings.NewReader(shirt))
				r.ContentLength = -1
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, r)
				codes <- rec.Code
			}()
		}
		go func() { codes <- post(h, "/category/predict", `{"title":"small"}`).Code }()
		synctest.Wait()
		if n := len(w.title.requests()); n != fit+1 {
			t.Error("a small one has to wait")
		}
		close(release)
		for range sent + 3 + 1 {
			if code := <-codes; code != 200 {
				t.Errorf("got %d", code)
			}
		}
	})
}

// A large product that finds no room is told to come again.
func TestNoRoom(t *testing.T) {
	large := `{"title":"shirt","images":[{"data":"` + strings.Repeat("A", 400<<10) + `"}]}`
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		w.bodies = serve.NewBudget(1 << 20)
		unknown := httptest.NewRequest(http.MethodPost, "/", nil)
		unknown.ContentLength = -1
		held, err := w.bodies.Take(t.Context(), unknown, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		defer held.Release()
		start := time.Now()
		rec := post(w.Handler(), "/category/predict", large)
		if rec.Code != 503 || rec.Header().Get("Retry-After") != "1" || !strings.Contains(rec.Body.String(), "no room") || time.Since(start) != 10*time.Second {
			t.Errorf("%d %v after %s: %s", rec.Code, rec.Header(), time.Since(start), rec.Body)
		}
	})
}
