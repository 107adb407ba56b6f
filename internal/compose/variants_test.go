package compose

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/metrics"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

// variantWorld is a world whose photo leg has two services: photo-gpu, and photo
// as the CPU one.
type variantWorld struct {
	*world
	gpu     *classifier
	cpu     *classifier
	stopGPU func()
}

func newVariantWorld(t *testing.T, rule string) *variantWorld {
	text := strings.Replace(twoLegs, "service: photo, weight", "variants: {gpu: photo-gpu, cpu: photo, rule: "+rule+"}, weight", 1)
	w := &variantWorld{world: newWorld(t, text), gpu: &classifier{name: "photo-gpu", reads: []string{"images"}, says: says("Shirts", 0.7, "Shoes", 0.3)}}
	w.cpu = w.photo
	w.stopGPU = w.serve("photo-gpu", w.gpu)
	return w
}

// starts makes a service answer nobody until it is up, in so long.
func starts(in time.Duration) func(http.ResponseWriter, *http.Request, int) bool {
	up := time.Now().Add(in)
	return func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		select {
		case <-time.After(time.Until(up)):
			return false
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
}

// closedBy answers as a proxy that keeps a service closed.
func closedBy(after time.Duration) func(http.ResponseWriter, *http.Request, int) bool {
	return func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		problem.Write(w, &problem.Error{Status: 503, Type: problem.TypeClosed, Detail: "closed", RetryAfter: after})
		return true
	}
}

// photoLeg asks about one product and gives the photo leg's part.
func (w *variantWorld) photoLeg(t *testing.T) category.Leg {
	t.Helper()
	res, err := w.Compose(t.Context(), both())
	if err != nil {
		t.Fatal(err)
	}
	return res.Legs[1]
}

// warm has the GPU service answer, so that it is known to be ready.
func (w *variantWorld) warm(t *testing.T) {
	t.Helper()
	w.photoLeg(t)
	synctest.Wait()
}

// many asks about n products at once.
func (w *variantWorld) many(t *testing.T, n int) []category.Leg {
	t.Helper()
	legs := make([]category.Leg, n)
	var wg sync.WaitGroup
	for i := range legs {
		wg.Go(func() {
			res, err := w.Compose(t.Context(), both())
			if err != nil {
				t.Error(err)
				return
			}
			legs[i] = res.Legs[1]
		})
	}
	wg.Wait()
	return legs
}

// is checks which variant was asked, why, and what became of it.
func is(t *testing.T, l category.Leg, variant category.Variant, why category.StandIn, outcome category.Outcome) {
	t.Helper()
	service := map[category.Variant]string{category.GPU: "photo-gpu", category.CPU: "photo"}[variant]
	if l.Variant != variant || l.StandIn != why || l.Outcome != outcome || l.Service != service {
		t.Errorf("want %s, stand-in %q, %s: %+v", variant, why, outcome, l)
	}
}

func TestPreferReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVariantWorld(t, "preferReady")
		w.gpu.before = starts(30 * time.Second)
		start := time.Now()
		for _, l := range w.many(t, 100) {
			is(t, l, category.CPU, category.InsteadOfWaking, category.Answered)
			if l.Reason != "photo-gpu is waking" || l.LatencyMs != 0 {
				t.Fatalf("%+v", l)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the CPU service's answers came after %s", took)
		}
		time.Sleep(29 * time.Second)
		is(t, w.photoLeg(t), category.CPU, category.InsteadOfWaking, category.Answered)
		if n := len(w.gpu.requests()); n != 1 {
			t.Errorf("%d requests woke the GPU service, want 1", n)
		}
		time.Sleep(2 * time.Second) // its late answer has come
		cpu := len(w.cpu.requests())
		for _, l := range w.many(t, 100) {
			is(t, l, category.GPU, "", category.Answered)
		}
		if n := len(w.cpu.requests()); n != cpu {
			t.Errorf("the CPU service was asked %d times while the GPU one was ready", n-cpu)
		}
	})
}

// Whether a service that has not been asked for a while is ready is found out
// by asking it, beside the CPU one: who answers first is taken.
func TestReadyAndNotKnownToBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVariantWorld(t, "preferReady")
		w.gpu.before, w.cpu.before = starts(0), starts(0)
		w.photoLeg(t)
		time.Sleep(readyFor)
		w.cpu.setBefore(starts(time.Second))
		is(t, w.photoLeg(t), category.GPU, "", category.Answered)
	})
}

func TestWaitFor(t *testing.T) {
	for _, tt := range []struct {
		name    string
		start   time.Duration
		took    time.Duration
		variant category.Variant
		why     category.StandIn
		asked   int // times that the GPU service was
	}{
		{"long enough", 1500 * time.Millisecond, 1500 * time.Millisecond, category.GPU, "", 100},
		{"not long enough", 30 * time.Second, 2 * time.Second, category.CPU, category.InsteadOfWaking, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newVariantWorld(t, "{waitFor: 2s}")
				w.gpu.before = starts(tt.start)
				start := time.Now()
				for _, l := range w.many(t, 100) {
					is(t, l, tt.variant, tt.why, category.Answered)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %s, want %s", took, tt.took)
				}
				if n := len(w.gpu.requests()); n != tt.asked {
					t.Errorf("the GPU service was asked %d times, want %d", n, tt.asked)
				}
			})
		})
	}
}

func TestNever(t *testing.T) {
	t.Run("wakes in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newVariantWorld(t, "never")
			w.gpu.before = starts(9 * time.Second)
			for _, l := range w.many(t, 20) {
				is(t, l, category.GPU, "", category.Answered)
			}
			if n := len(w.cpu.requests()); n != 0 {
				t.Errorf("the CPU service was asked %d times", n)
			}
		})
	})
	t.Run("does not wake in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newVariantWorld(t, "never")
			w.gpu.before = starts(time.Hour)
			for range 2 * tripsAfter {
				l := w.photoLeg(t)
				if is(t, l, category.GPU, "", category.LegFailed); l.Reason != "photo-gpu did not answer in time" || l.LatencyMs != 9_900 {
					t.Fatalf("%+v", l)
				}
			}
			if gpu, cpu := len(w.gpu.requests()), len(w.cpu.requests()); gpu != 1 || cpu != 0 {
				t.Errorf("the GPU service was asked %d times, the CPU one %d", gpu, cpu)
			}
			if !w.legs[1].breaker.IsClosed() {
				t.Error("products that could not wait longer opened the breaker")
			}
		})
	})
	t.Run("fails", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newVariantWorld(t, "never")
			w.stopGPU()
			for _, l := range w.many(t, 20) {
				if is(t, l, category.CPU, category.InsteadOfFailed, category.Answered); l.Reason != "photo-gpu cannot be reached: the connection was refused" {
					t.Errorf("%+v", l)
				}
			}
			if n := w.dialled("photo-gpu"); n > (1 + composition.DefaultRetries) {
				t.Errorf("20 products at once dialled the dead service %d times", n)
			}
		})
	})
	t.Run("closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newVariantWorld(t, "never")
			w.gpu.before = closedBy(time.Hour)
			l := w.photoLeg(t)
			if is(t, l, category.CPU, category.InsteadOfClosed, category.Answered); l.Reason != "photo-gpu is closed by a schedule until 2000-01-01T01:00:00Z" {
				t.Errorf("%+v", l)
			}
		})
	})
}

// A service whose every answer takes seconds is not taken for one that wakes.
func TestSlowModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVariantWorld(t, "preferReady")
		w.gpu.before = func(http.ResponseWriter, *http.Request, int) bool { time.Sleep(3 * time.Second); return false }
		is(t, w.photoLeg(t), category.CPU, category.InsteadOfWaking, category.Answered)
		time.Sleep(4 * time.Second)
		for range 3 {
			is(t, w.photoLeg(t), category.GPU, "", category.Answered)
		}
	})
}

func TestBothVariantsFail(t *testing.T) {
	for _, tt := range []struct {
		name     string
		gpu, cpu func(http.ResponseWriter, *http.Request, int) bool
		outcome  category.Outcome
		why      category.StandIn
		reason   string
		opens    time.Duration
	}{
		{"both closed", closedBy(time.Hour), closedBy(2 * time.Hour), category.Closed, category.InsteadOfClosed,
			"photo-gpu is closed by a schedule until 2000-01-01T01:00:00Z; photo is closed by a schedule until 2000-01-01T02:00:00Z", time.Hour},
		{"the CPU one opens first", closedBy(2 * time.Hour), closedBy(time.Hour), category.Closed, category.InsteadOfClosed, "photo is closed", time.Hour},
		{"the GPU one never opens", closedBy(0), closedBy(time.Hour), category.Closed, category.InsteadOfClosed, "photo-gpu is closed by a schedule; photo", time.Hour},
		{"neither ever opens", closedBy(0), closedBy(0), category.Closed, category.InsteadOfClosed, "closed", 0},
		{"closed and failed", closedBy(time.Hour), refuse, category.LegFailed, category.InsteadOfClosed, "photo-gpu is closed by a schedule until 2000-01-01T01:00:00Z; photo answered 501", 0},
		{"failed and closed", refuse, closedBy(time.Hour), category.LegFailed, category.InsteadOfFailed, "photo-gpu answered 501 Not Implemented; photo is closed", 0},
		{"both failed", refuse, refuse, category.LegFailed, category.InsteadOfFailed, "photo-gpu answered 501 Not Implemented; photo answered 501 Not Implemented", 0},
		{"waking and failed", starts(time.Hour), refuse, category.LegFailed, category.InsteadOfWaking, "photo-gpu did not answer in time; photo answered 501", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newVariantWorld(t, "preferReady")
				w.gpu.before, w.cpu.before = tt.gpu, tt.cpu
				began := time.Now()
				l := w.photoLeg(t)
				is(t, l, category.CPU, tt.why, tt.outcome)
				var opens time.Time
				if tt.opens > 0 {
					opens = began.Add(tt.opens)
				}
				if !strings.Contains(l.Reason, tt.reason) || !l.Opens.Equal(opens) {
					t.Errorf("opens %s: %s", l.Opens, l.Reason)
				}
			})
		})
	}
}

func refuse(w http.ResponseWriter, _ *http.Request, _ int) bool { w.WriteHeader(501); return true }

// Better the GPU service's answer late than none.
func TestCPUFailsWhileTheGPUWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVariantWorld(t, "preferReady")
		w.gpu.before, w.cpu.before = starts(3*time.Second), refuse
		start := time.Now()
		for _, l := range w.many(t, 20) {
			is(t, l, category.GPU, "", category.Answered)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// What the product is at fault for, one service's word is enough.
func TestAVariantRefusesTheProduct(t *testing.T) {
	refuses := func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		problem.Write(w, problem.New(422, "the picture ends too early"))
		return true
	}
	for _, rule := range []string{"preferReady", "never"} {
		synctest.Test(t, func(t *testing.T) {
			w := newVariantWorld(t, rule)
			if w.gpu.before = refuses; rule == "preferReady" {
				w.gpu.before, w.cpu.before = starts(time.Minute), refuses
			}
			if _, err := w.Compose(t.Context(), both()); problem.Status(err) != 422 {
				t.Errorf("%s: %v", rule, err)
			}
		})
	}
}

// A product with nothing to read wakes nobody, once that is known.
func TestVariantsLearnWhatTheyRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVariantWorld(t, "preferReady")
		w.gpu.setReads("images", "title")
		w.gpu.before = starts(0)
		w.cpu.before = starts(time.Second)
		w.warm(t)
		time.Sleep(readyFor)
		w.gpu.setBefore(starts(time.Minute))
		w.cpu.setBefore(nil)
		w.photoLeg(t)
		synctest.Wait()
		gpu := w.gpu.requests()
		if got := gpu[len(gpu)-1]; got.contentType != "application/json" {
			t.Errorf("the GPU service, which reads the title too, was sent %s", got.contentType)
		}
		w.photoLeg(t)
		if cpu := w.cpu.requests(); cpu[len(cpu)-1].contentType != "image/png" {
			t.Errorf("the CPU service, which reads the picture alone, was sent %s", cpu[len(cpu)-1].contentType)
		}
		w = newVariantWorld(t, "preferReady")
		w.warm(t)
		asked := len(w.gpu.requests())
		res, err := w.Compose(t.Context(), Product{Product: product.Product{Title: "red shirt"}})
		if err != nil {
			t.Fatal(err)
		}
		is(t, res.Legs[1], category.GPU, "", category.Skipped)
		if n := len(w.gpu.requests()); n != asked {
			t.Error("a product without a picture was sent")
		}
	})
}

// Who answered, why, and what woke whom is in the metrics, and in what the
// composer says of itself.
func TestVariantsAreSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVariantWorld(t, "preferReady")
		set := metrics.New()
		var err error
		if w.Composer, err = New(Options{Composition: w.spec, Transport: w.transport, Metrics: set}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Close)
		w.gpu.before = starts(10 * time.Second)
		h := w.Handler()
		about := func() string {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", nil))
			return rec.Body.String()
		}
		rec := post(h, "/category/predict", shirt)
		conforms(t, category.Schema(), rec.Body.Bytes())
		if !strings.Contains(rec.Body.String(), `"service":"photo","variant":"cpu","standIn":"waking","outcome":"answered"`) {
			t.Error(rec.Body)
		}
		if got := about(); !strings.Contains(got, `{"variant":"gpu","service":"photo-gpu",`) || !strings.Contains(got, `"ready":false,"waking":true}`) {
			t.Error(got)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		post(h, "/category/predict", shirt)
		if got := about(); !strings.Contains(got, `"ready":true}`) {
			t.Error(got)
		}
		w.gpu.setBefore(closedBy(time.Hour))
		post(h, "/category/predict", shirt)
		scraped := httptest.NewRecorder()
		set.ServeHTTP(scraped, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for _, line := range []string{
			`aisle_composer_leg_requests_total{leg="photo",variant="cpu",stand_in="waking",outcome="answered"} 1`,
			`aisle_composer_leg_requests_total{leg="photo",variant="gpu",stand_in="",outcome="answered"} 1`,
			`aisle_composer_leg_requests_total{leg="photo",variant="cpu",stand_in="closed",outcome="answered"} 1`,
			`aisle_composer_leg_requests_total{leg="title",variant="",stand_in="",outcome="answered"} 3`,
			`aisle_composer_leg_duration_seconds_count{leg="photo",variant="cpu"} 2`,
			`aisle_composer_gpu_wakes_total{leg="photo",outcome="answered"} 1`,
			`aisle_composer_gpu_ready{leg="photo"} 0`,
			`aisle_composer_gpu_waking{leg="photo"} 0`,
			`aisle_composer_breaker_state{leg="photo",variant="gpu"} 0`,
			`aisle_composer_breaker_state{leg="photo",variant="cpu"} 0`,
		} {
			if !strings.Contains(scraped.Body.String(), line+"\n") {
				t.Errorf("there is no %s in\n%s", line, scraped.Body)
			}
		}
	})
}
