package compose

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

func TestParseClosures(t *testing.T) {
	at := func(s string) time.Time {
		got, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got, err := parseClosures([]byte(`{"shop/title": [
		["2026-11-28T22:00:00Z", "2026-11-29T06:00:00Z"],
		["2026-11-27T22:00:00Z", "2026-11-28T06:00:00Z"],
		["2026-11-28T06:00:00Z", "2026-11-28T07:30:00+01:00"],
		["2026-11-28T06:00:00Z", "2026-11-28T07:00:00Z"]
	], "shop/photo": []}`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]span{
		"shop/title": {
			{at("2026-11-27T22:00:00Z"), at("2026-11-28T07:00:00Z")},
			{at("2026-11-28T22:00:00Z"), at("2026-11-29T06:00:00Z")},
		},
		"shop/photo": nil,
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(span{})); diff != "" {
		t.Error(diff)
	}
}

func TestParseClosuresRefuses(t *testing.T) {
	pair := `["2026-11-27T22:00:00Z","2026-11-28T06:00:00Z"]`
	for _, tt := range []struct{ name, text, says string }{
		{"empty", "", "want {"},
		{"a list", "[]", "want {"},
		{"more after it", "{}{}", "want {"},
		{"no times", `{"s/a":[["soon","later"]]}`, "want {"},
		{"no namespace", `{"a":[]}`, "want NAMESPACE/SERVICE"},
		{"one time", `{"s/a":[["2026-11-27T22:00:00Z"]]}`, `"s/a" [0]: want two times`},
		{"three times", `{"s/a":[` + pair[:len(pair)-1] + `,"2026-11-28T07:00:00Z"]]}`, "two times"},
		{"end before start", `{"s/a":[["2026-11-28T06:00:00Z","2026-11-27T22:00:00Z"]]}`, "the first before the second"},
		{"no length", `{"s/a":[["2026-11-28T06:00:00Z","2026-11-28T06:00:00Z"]]}`, "the first before the second"},
		{"service twice", `{"s/a":[],"s/a":[]}`, "want {"},
		{"too many", `{"s/a":[` + strings.Repeat(pair+",", 64) + pair + `]}`, "65 times; at most 64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseClosures([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

// Whatever is read is in order, and a service opens where a span ends.
func FuzzParseClosures(f *testing.F) {
	f.Add([]byte(`{"shop/title": [["2026-11-27T22:00:00Z", "2026-11-28T06:00:00Z"],["2026-11-28T01:00:00Z","2026-11-28T06:00:00Z"]]}`))
	f.Add([]byte(`{"/":[["0000-01-01T00:00:00Z","9999-12-31T23:59:59.999999999Z"]]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		all, err := parseClosures(raw)
		if err != nil {
			return
		}
		for service, spans := range all {
			for i, s := range spans {
				if !s.from.Before(s.to) || i > 0 && !spans[i-1].to.Before(s.from) {
					t.Fatalf("%q: %v", service, spans)
				}
				if opens, closed := within(spans, s.from); !closed || !opens.Equal(s.to) {
					t.Fatalf("%q at %s: %v, opens %s", service, s.from, closed, opens)
				}
				if _, closed := within(spans, s.to); closed {
					t.Fatalf("%q is closed at %s, when it opens", service, s.to)
				}
			}
		}
	})
}

// closuresFile is a file that closures are read from.
type closuresFile struct {
	t    *testing.T
	path string
}

// say replaces the file as the kubelet does: by another one of the same name.
func (f closuresFile) say(text string) {
	f.t.Helper()
	if err := os.WriteFile(f.path+".new", []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(f.path+".new", f.path); err != nil {
		f.t.Fatal(err)
	}
}

// closes has it say that a service is closed for so long from now on.
func (f closuresFile) closes(service string, long time.Duration) {
	f.t.Helper()
	now := time.Now()
	f.say(`{"default/` + service + `":[["` + now.Format(time.RFC3339) + `","` + now.Add(long).Format(time.RFC3339) + `"]]}`)
}

func TestClosuresFileIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := closuresFile{t, filepath.Join(t.TempDir(), "closures.json")}
		var log bytes.Buffer
		c := newClosures(f.path, slog.New(slog.NewTextHandler(&log, nil)))
		check := func(step string, closed, damaged bool) {
			t.Helper()
			time.Sleep(closuresEvery)
			if _, got := c.of("default", "title", time.Now()); got != closed || c.damaged.Load() != damaged {
				t.Errorf("%s: closed %v, damaged %v", step, got, c.damaged.Load())
			}
		}
		check("no file", false, false)
		f.closes("title", time.Hour)
		check("closed", true, false)
		f.say(`{"title"`)
		check("damaged", true, true)
		check("damaged, and looked at again", true, true)
		if n := strings.Count(log.String(), "still holds"); n != 1 {
			t.Errorf("told of %d times: %s", n, log.String())
		}
		f.closes("photo", time.Hour)
		check("another service", false, false)
		f.closes("title", time.Hour)
		check("closed again", true, false)
		if err := os.Remove(f.path); err != nil {
			t.Fatal(err)
		}
		check("the file is gone", false, false)
		f.say(strings.Repeat(" ", composition.MaxFile+1))
		check("too large", false, true)
		if c := newClosures("", nil); c != nil {
			t.Error("no file is one")
		}
	})
}

// closingWorld is a world whose composer reads closures from a file.
func closingWorld(t *testing.T, text string) (*world, closuresFile) {
	f := closuresFile{t, filepath.Join(t.TempDir(), "closures.json")}
	w := newWorld(t, text)
	var err error
	if w.Composer, err = New(Options{Composition: w.spec, Transport: w.transport, Closures: f.path}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w, f
}

// A closed leg is not asked, has not failed, and is asked once it is open.
func TestClosedByTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := closingWorld(t, twoLegs)
		f.closes("photo", time.Hour)
		opens := time.Now().Add(time.Hour)
		time.Sleep(closuresEvery)
		res, err := w.Compose(t.Context(), both())
		if err != nil {
			t.Fatal(err)
		}
		l := res.Legs[1]
		if res.Status != category.Complete || res.Category.Label != "Shirts" || l.Outcome != category.Closed || !l.Opens.Equal(opens) || l.Attempts != 0 ||
			l.Reason != "photo is closed by a schedule until 2000-01-01T01:00:00Z" {
			t.Errorf("%s %+v", res.Status, l)
		}
		if n := w.dialled("photo"); n != 0 {
			t.Errorf("the closed service was dialled %d times", n)
		}
		time.Sleep(time.Until(opens))
		if res, err = w.Compose(t.Context(), both()); err != nil || res.Legs[1].Outcome != category.Answered {
			t.Errorf("%v %+v", err, res.Legs)
		}
	})
}

// A proxy that keeps a service closed is asked once for a product, and is not
// dead.
func TestClosedByTheProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		w.photo.before = closedBy(time.Hour)
		for range 2 * tripsAfter {
			began := time.Now()
			res, err := w.Compose(t.Context(), both())
			if err != nil {
				t.Fatal(err)
			}
			if l := res.Legs[1]; res.Status != category.Complete || l.Outcome != category.Closed || l.Attempts != 1 || !l.Opens.Equal(began.Add(time.Hour)) {
				t.Errorf("%s %+v", res.Status, l)
			}
		}
		if !w.legs[1].breaker.IsClosed() {
			t.Error("a closed service opened the breaker")
		}
	})
}

// Where there is no category without what is closed, the event is to come again
// when it opens.
func TestClosedAndNoCategory(t *testing.T) {
	required := strings.Replace(twoLegs, "weight: 0.8", "weight: 0.8, required: true", 1)
	bothRequired := strings.Replace(required, "service: title", "service: title, required: true", 1)
	for _, tt := range []struct {
		name, text   string
		title, photo func(http.ResponseWriter, *http.Request, int) bool
		typ          string
		after        time.Duration
		says         string
	}{
		{"required", required, nil, closedBy(time.Hour), problem.TypeClosed, time.Hour, "there is no category without leg photo; photo: photo is closed"},
		{"all closed", twoLegs, closedBy(2 * time.Hour), closedBy(time.Hour), problem.TypeClosed, time.Hour, "no leg is open"},
		{"both required", bothRequired, closedBy(2 * time.Hour), closedBy(time.Hour), problem.TypeClosed, 2 * time.Hour, "without leg title, photo"},
		{"never opens", required, nil, closedBy(0), problem.TypeClosed, closedPatience, "photo is closed by a schedule"},
		{"closed and failed", twoLegs, refuse, closedBy(time.Hour), "", time.Second, "no leg answered; title: title answered 501 Not Implemented; photo: photo is closed"},
		{"required, closed and failed", bothRequired, refuse, closedBy(time.Hour), "", time.Hour, "without leg title, photo"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, tt.text)
				w.title.before, w.photo.before = tt.title, tt.photo
				res, err := w.Compose(t.Context(), both())
				var p *problem.Error
				if !errors.As(err, &p) || p.Status != 503 || p.Type != tt.typ || p.RetryAfter != tt.after || !strings.Contains(p.Detail, tt.says) {
					t.Errorf("got %+v", p)
				}
				if res.Status != category.Failed || res.Category != nil {
					t.Errorf("%+v", res)
				}
			})
		})
	}
}

// A product that has nothing for a closed leg does not wait for it.
func TestSkippedWhileClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := closingWorld(t, strings.Replace(declared, "reads: [images]", "reads: [images], required: true", 1))
		f.closes("photo", time.Hour)
		time.Sleep(closuresEvery)
		res, err := w.Compose(t.Context(), Product{Product: product.Product{Title: "red shirt"}})
		if err != nil || res.Legs[1].Outcome != category.Skipped {
			t.Errorf("%v %+v", err, res.Legs)
		}
	})
}

// Closures are of the namespace that they say, whatever the composer's own is.
func TestClosuresOfAnotherNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := closingWorld(t, strings.Replace(twoLegs, "weight: 0.8", "namespace: shop", 1))
		f.closes("photo", time.Hour)
		time.Sleep(closuresEvery)
		res, err := w.Compose(t.Context(), both())
		if err != nil || res.Legs[1].Outcome != category.Answered {
			t.Errorf("%v %+v", err, res.Legs)
		}
	})
}

func TestClosedOverHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		w.photo.before = closedBy(time.Hour)
		rec := post(w.Handler(), "/category/predict", shirt)
		if rec.Code != 200 || !strings.Contains(rec.Body.String(), `"outcome":"closed"`) || !strings.Contains(rec.Body.String(), `"opens":"2000-01-01T01:00:00Z"`) {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
		conforms(t, category.Schema(), rec.Body.Bytes())
		w.title.setBefore(closedBy(90 * time.Minute))
		if rec = post(w.Handler(), "/category/predict", shirt); rec.Code != 503 || rec.Header().Get("Retry-After") != "3600" || !strings.Contains(rec.Body.String(), problem.TypeClosed) {
			t.Errorf("%d %v %s", rec.Code, rec.Header(), rec.Body)
		}
	})
}
