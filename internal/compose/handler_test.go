package compose

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/goleak"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// conforms checks a document against one of the published schemas.
func conforms(t *testing.T, schema, doc []byte) {
	t.Helper()
	parse := func(b []byte) any {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", parse(schema)); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(parse(doc)); err != nil {
		t.Errorf("%s\n%v", doc, err)
	}
}

func post(h http.Handler, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const shirt = `{"id":"p1","title":"red shirt","images":[{"data":"iVBORw0KGgoAAAAAAAAAAAAAAAAAAAAA"}]}`

func TestPredict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		h := w.Handler()
		for _, ct := range []string{"application/json", "application/json; charset=utf-8", "application/vnd.shop+json", ""} {
			rec := post(h, "/category/predict", shirt, "Content-Type", ct, HeaderIdempotencyKey, "k-1")
			if rec.Code != 200 || rec.Header().Get("Content-Type") != "application/json" || rec.Header().Get(HeaderIdempotencyKey) != "k-1" {
				t.Fatalf("%q: %d %v %s", ct, rec.Code, rec.Header(), rec.Body)
			}
			conforms(t, category.Schema(), rec.Body.Bytes())
		}
		w.stopPhoto()
		rec := post(h, "/category/predict", shirt)
		conforms(t, category.Schema(), rec.Body.Bytes())
		var res category.Result
		if err := json.Unmarshal(rec.Body.Bytes(), &res); err != nil || res.Status != category.Partial {
			t.Errorf("%v %s", err, rec.Body)
		}
		rec = post(h, "/category/predict", `{"title":"shirt"}`) // the photo leg's breaker is open, or it is skipped
		conforms(t, category.Schema(), rec.Body.Bytes())
	})
}

// The time is a bubble's: what waits for a leg takes as long as told, and the
// composer's own work takes none.
func TestServerTiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		w.photo.before = func(http.ResponseWriter, *http.Request, int) bool { time.Sleep(30 * time.Millisecond); return false }
		for path, headers := range map[string][]string{
			"/category/predict": nil,
			"/":                 {"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/shop", "Ce-Type", event.TypeProduct},
		} {
			rec := post(w.Handler(), path, shirt, headers...)
			if got := rec.Header().Get("Server-Timing"); rec.Code != 200 || got != "legs;dur=30.000, compose;dur=0.000" {
				t.Errorf("%s: %d, %q", path, rec.Code, got)
			}
		}
	})
}

func TestGzippedProduct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		var buf bytes.Buffer
		z := gzip.NewWriter(&buf)
		_, _ = io.WriteString(z, shirt)
		_ = z.Close()
		if rec := post(w.Handler(), "/category/predict", buf.String(), "Content-Encoding", "gzip"); rec.Code != 200 {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
		if got := w.title.requests()[0]; string(got.body) != shirt || got.header.Get("Content-Encoding") != "" {
			t.Errorf("the leg was sent %q %v", got.body, got.header)
		}
	})
}

// Everything of the "Bad input" that reaches a composer.
func TestBadInput(t *testing.T) {
	huge := strings.Repeat("a", 1<<20)
	bomb := func() string {
		var buf bytes.Buffer
		z, _ := gzip.NewWriterLevel(&buf, gzip.BestCompression)
		zeros := make([]byte, 1<<20)
		for range product.MaxBody>>20 + 1 {
			_, _ = z.Write(zeros)
		}
		_ = z.Close()
		return buf.String()
	}()
	ev := func(pairs ...string) []string {
		h := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/s", "Ce-Type": event.TypeProduct}
		for i := 0; i < len(pairs); i += 2 {
			h[pairs[i]] = pairs[i+1]
		}
		var out []string
		for k, v := range h {
			if v != "" {
				out = append(out, k, v)
			}
		}
		return out
	}
	tests := []struct {
		name, path, body string
		headers          []string
		status           int
		says             string
	}{
		{"not json", "/category/predict", "title: shirt", nil, 400, "not valid JSON"},
		{"empty", "/category/predict", "", nil, 400, "empty"},
		{"truncated", "/category/predict", shirt[:20], nil, 400, "too early"},
		{"wrong type", "/category/predict", `{"title":5}`, nil, 400, "title must be a string"},
		{"array cut short", "/category/predict", `[` + shirt, nil, 400, "JSON"},
		{"null", "/category/predict", `null`, nil, 422, "nothing to categorise"},
		{"unknown field", "/category/predict", `{"title":"a","colour":"red"}`, nil, 400, "colour"},
		{"two products", "/category/predict", shirt + shirt, nil, 400, "one product per request"},
		{"neither title nor image", "/category/predict", `{"id":"1","brand":"b"}`, nil, 422, "neither a title nor an image"},
		{"blank title", "/category/predict", `{"title":"  "}`, nil, 422, "neither a title nor an image"},
		{"1 MB title", "/category/predict", `{"title":"` + huge + `"}`, nil, 413, "title"},
		{"1 MB id", "/category/predict", `{"title":"a","id":"` + huge + `"}`, nil, 413, "id"},
		{"invalid utf-8", "/category/predict", "{\"title\":\"\xff\"}", nil, 400, "UTF-8"},
		{"NUL", "/category/predict", `{"title":"a\u0000b"}`, nil, 422, "NUL"},
		{"raw NUL", "/category/predict", "{\"title\":\"a\x00b\"}", nil, 400, "JSON"},
		{"not base64", "/category/predict", `{"images":[{"data":"?"}]}`, nil, 400, "base64"},
		{"empty image", "/category/predict", `{"images":[{}]}`, nil, 422, "images[0] is empty"},
		{"too large", "/category/predict", `{"title":"` + strings.Repeat("a", product.MaxBody) + `"}`, nil, 413, "larger"},
		{"gzip bomb", "/category/predict", bomb, []string{"Content-Encoding", "gzip"}, 413, "larger"},
		{"not gzip", "/category/predict", shirt, []string{"Content-Encoding", "gzip"}, 400, "gzip"},
		{"brotli", "/category/predict", shirt, []string{"Content-Encoding", "br"}, 415, "coding"},
		{"a form", "/category/predict", "title=a", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "application/json"},
		{"latin-1", "/category/predict", shirt, []string{"Content-Type", "application/json; charset=latin1"}, 415, "UTF-8"},
		{"an event", "/category/predict", shirt, []string{"Content-Type", event.ContentType}, 415, "CloudEvents"},
		{"long idempotency key", "/category/predict", shirt, []string{HeaderIdempotencyKey, strings.Repeat("a", 256)}, 400, "Idempotency-Key"},
		{"plain json as event", "/", shirt, nil, 400, "ce-specversion"},
		{"event without id", "/", shirt, ev("Ce-Id", ""), 400, "id is missing"},
		{"event without source", "/", shirt, ev("Ce-Source", ""), 400, "source is missing"},
		{"event without type", "/", shirt, ev("Ce-Type", ""), 400, "type is missing"},
		{"event of unknown type", "/", shirt, ev("Ce-Type", "com.example.thing"), 400, event.TypeProduct},
		{"its own type: no loop", "/", shirt, ev("Ce-Type", event.TypeCategory), 400, event.TypeProduct},
		{"event of unknown specversion", "/", shirt, ev("Ce-Specversion", "2.0"), 400, "specversion"},
		{"event of another schema", "/", shirt, ev("Ce-Dataschema", "https://example.com/s"), 400, "dataschema"},
		{"event without data", "/", "", ev(), 400, "no data"},
		{"event with a bad product", "/", `{"title":5}`, ev(), 400, "title must be"},
		{"event with text", "/", "shirt", ev("Content-Type", "text/plain"), 415, "application/json"},
		{"batch", "/", "[]", []string{"Content-Type", "application/cloudevents-batch+json"}, 415, "one event"},
		{"structured, truncated", "/", `{"specversion":"1.0"`, []string{"Content-Type", event.ContentType}, 400, "too early"},
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		h := w.Handler()
		for _, tt := range tests {
			rec := post(h, tt.path, tt.body, tt.headers...)
			var p struct {
				Type, Title, Detail, Error string
				Status                     int
			}
			if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
				t.Errorf("%s: %v: %s", tt.name, err, rec.Body)
				continue
			}
			if rec.Code != tt.status || p.Status != tt.status || rec.Header().Get("Content-Type") != problem.ContentType ||
				p.Error == "" || p.Error != p.Detail || p.Type == "" || p.Title == "" || !strings.Contains(p.Error, tt.says) {
				t.Errorf("%s: %d %s\nwant %d %q", tt.name, rec.Code, rec.Body, tt.status, tt.says)
			}
		}
		if n := len(w.title.requests()) + len(w.photo.requests()); n != 0 {
			t.Errorf("bad input reached the legs %d times", n)
		}
	})
}

func TestRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newWorld(t, twoLegs).Handler()
		for _, tt := range []struct {
			method, path string
			status       int
			contentType  string
		}{
			{"GET", "/", 200, "application/json"},
			{"HEAD", "/", 200, "application/json"},
			{"GET", product.SchemaPath, 200, "application/schema+json"},
			{"GET", category.SchemaPath, 200, "application/schema+json"},
			{"GET", "/category/predict", 405, problem.ContentType},
			{"DELETE", "/", 405, problem.ContentType},
			{"POST", category.SchemaPath, 405, problem.ContentType},
			{"GET", "/nothing", 404, problem.ContentType},
			{"POST", "/category/predict/", 404, problem.ContentType},
		} {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, httptest.NewRequest(tt.method, tt.path, nil))
			if rec.Code != tt.status || rec.Header().Get("Content-Type") != tt.contentType || (tt.status == 405) != (rec.Header().Get("Allow") != "") {
				t.Errorf("%s %s: %d %v", tt.method, tt.path, rec.Code, rec.Header())
			}
			if !json.Valid(rec.Body.Bytes()) {
				t.Errorf("%s %s: %s", tt.method, tt.path, rec.Body)
			}
		}
		conforms(t, product.Schema(), []byte(shirt))
	})
}

func TestNoLegAnswersOverHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		w.stopTitle()
		w.stopPhoto()
		rec := post(w.Handler(), "/category/predict", shirt)
		var p struct {
			Legs  []category.Leg
			Error string
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || rec.Code != 503 || rec.Header().Get("Retry-After") == "" || len(p.Legs) != 2 || p.Legs[0].Outcome != category.LegFailed {
			t.Errorf("%v %d %s", err, rec.Code, rec.Body)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	good := parsed(t, twoLegs)
	for name, o := range map[string]Options{
		"no composition":   {},
		"bad leg url":      {Composition: good, LegURL: "nowhere"},
		"bad namespace":    {Composition: good, Namespace: "A B"},
		"bad source":       {Composition: good, Source: ":/ %zz"},
		"empty source":     {Composition: good, Source: "#"},
		"bad max inflight": {Composition: good, MaxInFlight: -1},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPredictionsOnRequest(t *testing.T) {
	for _, tt := range []struct {
		query      string
		status     int
		legs       int // predictions of each leg
		candidates int
	}{
		{"", 200, 0, 5},
		{"?predictions=1", 200, 1, 5},
		{"?predictions=6", 200, 6, 6},
		{"?predictions=100", 200, 7, 7},
		{"?predictions=all", 200, 7, 7},
		{"?predictions=0", 400, 0, 0},
		{"?predictions=-1", 400, 0, 0},
		{"?predictions=many", 400, 0, 0},
	} {
		t.Run(tt.query, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, twoLegs)
				w.title.says = says("a", 0.05, "b", 0.05, "c", 0.5, "d", 0.1, "e", 0.1, "f", 0.1, "Shoes", 0.1)
				w.photo.says = w.title.says
				rec := httptest.NewRecorder()
				w.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/category/predict"+tt.query, strings.NewReader(`{"title":"red shirt","images":[{"data":"iVBORw0KGgoAAAAAAAAA"}]}`)))
				if rec.Code != tt.status {
					t.Fatalf("%d %s", rec.Code, rec.Body)
				}
				if rec.Code != 200 {
					return
				}
				var res category.Result
				if err := json.Unmarshal(rec.Body.Bytes(), &res); err != nil {
					t.Fatal(err)
				}
				if len(res.Candidates) != tt.candidates || len(res.Legs[0].Predictions) != tt.legs || len(res.Legs[1].Predictions) != tt.legs {
					t.Errorf("%+v", res)
				}
				if tt.legs > 0 && res.Legs[0].Predictions[0].Label != "c" {
					t.Errorf("not the likeliest first: %+v", res.Legs[0].Predictions)
				}
			})
		})
	}
}
