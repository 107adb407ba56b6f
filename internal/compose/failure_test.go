package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

func TestFailedLegs(t *testing.T) {
	respond := func(status int, body string, headers ...string) func(http.ResponseWriter, *http.Request, int) bool {
		return func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
			return true
		}
	}
	good := `{"model":{"name":"photo","version":"1","digest":"sha256:` + hex64 + `"},"predictions":[%s]}`
	answer := func(predictions string) func(http.ResponseWriter, *http.Request, int) bool {
		return respond(200, fmt.Sprintf(good, predictions))
	}
	tests := []struct {
		name     string
		photo    func(http.ResponseWriter, *http.Request, int) bool
		reason   string
		attempts int
	}{
		{"500", respond(500, "oops"), "photo answered 500 Internal Server Error: oops", 1},
		{"502", respond(502, "oops"), "photo answered 502 Bad Gateway: oops", 3},
		{"504", respond(504, ""), "504", 3},
		{"501", respond(501, ""), "501", 1},
		{"503", respond(503, `{"detail":"queue full"}`, "Content-Type", problem.ContentType), "queue full", 3},
		{"429", respond(429, ""), "429", 3},
		{"404", respond(404, ""), `there is no service "photo" in namespace "default"`, 1},
		{"421", respond(421, `{"error":"unknown host"}`), `there is no service "photo"`, 1},
		{"403", respond(403, ""), "403", 1},
		{"redirect", respond(302, "", "Location", "http://elsewhere/"), "302", 1},
		{"not json", respond(200, "<html>"), "no usable answer", 1},
		{"empty", respond(200, ""), "no usable answer", 1},
		{"no predictions", answer(``), "no predictions", 1},
		{"a NaN", answer(`{"label":"a","probability":NaN}`), "no usable answer", 1},
		{"more than 1", answer(`{"label":"a","probability":1.5}`), "1.5", 1},
		{"less than 0", answer(`{"label":"a","probability":-0.1}`), "-0.1", 1},
		{"label twice", answer(`{"label":"a","probability":0.1},{"label":"a","probability":0.1}`), "twice", 1},
		{"empty label", answer(`{"label":"","probability":0.1}`), "label is empty", 1},
		{"sum above 1", answer(`{"label":"a","probability":0.9},{"label":"b","probability":0.9}`), "sum", 1},
		{"all 0", answer(`{"label":"a","probability":0}`), "all probabilities are 0", 1},
		{"no model", respond(200, `{"predictions":[{"label":"a","probability":1}]}`), "model", 1},
		{"too long", respond(200, strings.Repeat(" ", maxAnswer+1)), "larger than", 1},
		{"too long, unannounced", func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			for range 2 {
				_, _ = io.WriteString(w, strings.Repeat(" ", maxAnswer))
				_ = http.NewResponseController(w).Flush()
			}
			return true
		}, "larger than", 1},
		{"hangs up", func(http.ResponseWriter, *http.Request, int) bool { panic(http.ErrAbortHandler) }, "cannot be reached", 3},
		{"hangs up in the answer", func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
			panic(http.ErrAbortHandler)
		}, "cannot be reached", 3},
		{"control characters", respond(500, "a\x00b\nc\xff"), "500 Internal Server Error: a b c", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, twoLegs)
				w.photo.before = tt.photo
				res, err := w.Compose(t.Context(), both())
				if err != nil {
					t.Fatal(err)
				}
				l := res.Legs[1]
				if res.Status != category.Partial || res.Category.Label != "Shirts" || res.Legs[0].Outcome != category.Answered {
					t.Errorf("%+v", res)
				}
				if l.Outcome != category.LegFailed || !strings.Contains(l.Reason, tt.reason) || l.Attempts != tt.attempts || l.Label != "" {
					t.Errorf("%+v\nwant %q after %d", l, tt.reason, tt.attempts)
				}
			})
		})
	}
}

func TestServiceThatDoesNotExist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, strings.Replace(twoLegs, "service: photo", "service: nosuch", 1))
		res, err := w.Compose(t.Context(), both())
		if err != nil {
			t.Fatal(err)
		}
		if l := res.Legs[1]; l.Outcome != category.LegFailed || l.Reason != "nosuch cannot be reached: the connection was refused" || l.Attempts != 3 {
			t.Errorf("%+v", l)
		}
	})
}

func TestTheSendersFault(t *testing.T) {
	for _, status := range []int{400, 413, 415, 422} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, twoLegs)
				w.photo.before = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
					problem.Write(w, problem.New(status, "the picture ends too early"))
					return true
				}
				_, err := w.Compose(t.Context(), both())
				if problem.Status(err) != 422 || !strings.Contains(err.Error(), "photo") || !strings.Contains(err.Error(), "the picture ends too early") {
					t.Errorf("got %v", err)
				}
				if n := len(w.photo.requests()); n != 1 {
					t.Errorf("asked %d times", n)
				}
			})
		})
	}
}

func TestNoLegAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		w.stopTitle()
		w.photo.before = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			problem.Write(w, &problem.Error{Status: 503, Detail: "full", RetryAfter: 20 * time.Second})
			return true
		}
		res, err := w.Compose(t.Context(), both())
		var p *problem.Error
		if !errors.As(err, &p) || p.Status != 503 || p.RetryAfter != 20*time.Second || len(p.Extra["legs"].([]category.Leg)) != 2 {
			t.Errorf("got %+v", err)
		}
		if res.Status != category.Failed || res.Category != nil {
			t.Errorf("%+v", res)
		}
	})
}

func TestRequired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, strings.Replace(twoLegs, "weight: 0.8", "weight: 0.8, required: true", 1))
		res, err := w.Compose(t.Context(), Product{Product: product.Product{Title: "red shirt"}})
		if err != nil || res.Status != category.Complete {
			t.Errorf("a required leg with nothing to read: %v %+v", err, res)
		}
		w.stopPhoto()
		res, err = w.Compose(t.Context(), both())
		if problem.Status(err) != 503 || !strings.Contains(err.Error(), "without leg photo") || res.Category != nil {
			t.Errorf("got %v %+v", err, res)
		}
	})
}

func TestFlappingLegIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		w.photo.before = func(w http.ResponseWriter, _ *http.Request, try int) bool {
			if try < 3 {
				w.WriteHeader(503)
			}
			return try < 3
		}
		start := time.Now()
		res, err := w.Compose(t.Context(), both())
		if err != nil {
			t.Fatal(err)
		}
		if l := res.Legs[1]; l.Outcome != category.Answered || l.Attempts != 3 || l.Reason != "" {
			t.Errorf("%+v", l)
		}
		// Two pauses of at most 100 and 200 ms, with full jitter.
		if took := time.Since(start); took <= 0 || took > 300*time.Millisecond {
			t.Errorf("took %s", took)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	for _, tt := range []struct {
		name, after string
		attempts    int
		took        time.Duration
		reason      string
	}{
		{"seconds", "2", 2, 2 * time.Second, ""},
		{"longer than the deadline", "60", 1, 0, "there was no time to try again in 1m0"},
		{"nonsense", "soon", 2, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, twoLegs)
				w.photo.before = func(w http.ResponseWriter, _ *http.Request, try int) bool {
					if try == 1 {
						w.Header().Set("Retry-After", tt.after)
						w.WriteHeader(503)
					}
					return try == 1
				}
				start := time.Now()
				res, err := w.Compose(t.Context(), both())
				if err != nil {
					t.Fatal(err)
				}
				l := res.Legs[1]
				if l.Attempts != tt.attempts || !strings.Contains(l.Reason, tt.reason) || time.Since(start).Truncate(time.Second) != tt.took {
					t.Errorf("%s: %+v", time.Since(start), l)
				}
			})
		})
	}
}

func TestDeadlines(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		took       time.Duration
	}{
		{"the composition's, less its margin", twoLegs, 10*time.Second - composition.DefaultMargin},
		{"the leg's own", strings.Replace(twoLegs, "weight: 0.8", "deadline: 500ms", 1), 500 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, tt.text)
				w.photo.before = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
					<-r.Context().Done()
					return true
				}
				start := time.Now()
				res, err := w.Compose(t.Context(), both())
				if err != nil {
					t.Fatal(err)
				}
				if l := res.Legs[1]; l.Outcome != category.LegFailed || l.Reason != "photo did not answer in time" || res.Status != category.Partial {
					t.Errorf("%+v", l)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

func TestTheSenderGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		w.photo.before = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			<-r.Context().Done()
			return true
		}
		for range 2 * tripsAfter {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("gone"))
			_, _ = w.Compose(ctx, both())
			cancel()
		}
		if !w.legs[1].breaker.IsClosed() {
			t.Error("senders that give up opened the leg's circuit breaker")
		}
	})
}

func TestCircuitBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		w.stopPhoto()
		var last category.Leg
		for range 3 {
			res, err := w.Compose(t.Context(), both())
			if err != nil {
				t.Fatal(err)
			}
			last = res.Legs[1]
		}
		if w.dialled("photo") != tripsAfter {
			t.Errorf("a dead service was dialled %d times, want %d", w.dialled("photo"), tripsAfter)
		}
		if last.Attempts != 0 || last.Reason != "photo is not asked for up to 3s, since its last requests failed (photo cannot be reached: the connection was refused)" || last.LatencyMs > 1 {
			t.Errorf("%+v", last)
		}
		// Half open: one try, which fails, and it is open again.
		time.Sleep(openFor)
		if res, _ := w.Compose(t.Context(), both()); res.Legs[1].Attempts != 1 {
			t.Errorf("half open: %+v", res.Legs[1])
		}
		// Half open again, and the service is back.
		time.Sleep(openFor)
		w.serve("photo", w.photo)
		for range 2 {
			if res, _ := w.Compose(t.Context(), both()); res.Legs[1].Outcome != category.Answered {
				t.Errorf("closed: %+v", res.Legs[1])
			}
		}
	})
}

// A service that says that it is full is not dead.
func TestBusyOpensNoBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		w.photo.before = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			problem.Write(w, &problem.Error{Status: 503, Detail: "full", RetryAfter: time.Second})
			return true
		}
		for range tripsAfter {
			_, _ = w.Compose(t.Context(), both())
		}
		if !w.legs[1].breaker.IsClosed() {
			t.Error("open")
		}
	})
}

// panicking panics at requests to one host.
type panicking struct {
	http.RoundTripper
	host string // how it begins
}

func (p panicking) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.URL.Host, p.host) {
		panic("boom")
	}
	return p.RoundTripper.RoundTrip(r)
}

func TestAPanicIsTheLegsFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		for _, l := range w.legs {
			l.client.Transport = panicking{w.transport, "photo."}
		}
		for range tripsAfter + 1 {
			res, err := w.Compose(t.Context(), both())
			if err != nil || res.Status != category.Partial || res.Legs[1].Outcome != category.LegFailed {
				t.Fatalf("%v %+v", err, res)
			}
		}
		// A panic during the half-open trial must give its permit back.
		time.Sleep(openFor)
		_, _ = w.Compose(t.Context(), both())
		w.legs[1].client.Transport = w.transport
		time.Sleep(openFor)
		if res, _ := w.Compose(t.Context(), both()); res.Status != category.Complete {
			t.Errorf("the leg never recovered: %+v", res.Legs[1])
		}
	})
}
