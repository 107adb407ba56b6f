package compose

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/goleak"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/metrics"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/serve"
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
	inBubble(t, func(t *testing.T) {
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
	inBubble(t, func(t *testing.T) {
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
	inBubble(t, func(t *testing.T) {
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

func TestEvents(t *testing.T) {
	binary := []string{"Ce-Specversion", "1.0", "Ce-Id", "e 1", "Ce-Source", "/shop", "Ce-Type", event.TypeProduct, "Ce-Partitionkey", "k",
		"Ce-Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	binary[3] = "e%201"
	structured := fmt.Sprintf(`{"specversion":"1.0","id":"e 1","source":"/shop","type":%q,"partitionkey":"k","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","data":%s}`, event.TypeProduct, shirt)
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		h := w.Handler()
		ids := map[string]bool{}
		send := func(asStructured bool) *httptest.ResponseRecorder {
			if asStructured {
				return post(h, "/", structured, "Content-Type", event.ContentType)
			}
			return post(h, "/", shirt, binary...)
		}
		for _, asStructured := range []bool{true, false} {
			rec := send(asStructured)
			if rec.Code != 200 {
				t.Fatalf("%d %s", rec.Code, rec.Body)
			}
			ev, got, err := event.Decode(rec.Header(), rec.Body.Bytes())
			if err != nil || got != asStructured {
				t.Fatalf("%v: the reply's mode is structured %v, want %v", err, got, asStructured)
			}
			ids[ev.ID()] = true
			attrs := map[string]any{"type": ev.Type(), "source": ev.Source(), "subject": ev.Subject(), "dataschema": ev.DataSchema(), "datacontenttype": ev.DataContentType(), "id": len(ev.ID())}
			for k, v := range ev.Extensions() {
				attrs[k] = v
			}
			want := map[string]any{"type": event.TypeCategory, "source": "/aisle/composer", "subject": "p1", "dataschema": event.SchemaCategory,
				"datacontenttype": "application/json", "id": 32, "aislestatus": "complete", "causationid": "e 1", "partitionkey": "k",
				"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
			if diff := cmp.Diff(want, attrs); diff != "" {
				t.Error(diff)
			}
			if !ev.Time().Equal(time.Now()) {
				t.Errorf("time %s", ev.Time())
			}
			conforms(t, category.Schema(), ev.Data())
			var schema struct {
				ID string `json:"$id"`
			}
			if err := json.Unmarshal(category.Schema(), &schema); err != nil || schema.ID != ev.DataSchema() {
				t.Errorf("dataschema %s, the schema's $id is %s", ev.DataSchema(), schema.ID)
			}
		}
		if len(ids) != 1 {
			t.Errorf("one event delivered twice got the ids %v", ids)
		}
		if got := w.title.requests()[0].header.Get("Traceparent"); got == "" {
			t.Error("the leg was sent no traceparent")
		}
		w.stopPhoto()
		ev, _, err := event.Decode(send(false).Header(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if ids[ev.ID()] || ev.Extensions()["aislestatus"] != "partial" || ev.Extensions()["failedlegs"] != "photo" {
			t.Errorf("a partial answer: %v", ev)
		}
	})
}

func TestReplyID(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		res, err := w.Compose(t.Context(), both())
		if err != nil {
			t.Fatal(err)
		}
		in, _ := event.NewProduct("/shop", "1", product.Product{Title: "x"})
		base := replyID(in, res)
		changed := map[string]func(){
			"input id":     func() { in.SetID("2") },
			"input source": func() { in.SetSource("/other") },
			"composition":  func() { res.Composition.Digest = "sha256:x" },
			"model":        func() { m := *res.Legs[0].Model; m.Digest = "sha256:y"; res.Legs[0].Model = &m },
			"fewer legs":   func() { res.Legs[1].Outcome = category.LegFailed },
		}
		for name, change := range changed {
			in, _ = event.NewProduct("/shop", "1", product.Product{Title: "x"})
			res, _ = w.Compose(t.Context(), both())
			if replyID(in, res) != base {
				t.Fatalf("%s: the same answer has another id", name)
			}
			change()
			if replyID(in, res) == base {
				t.Errorf("%s changes nothing", name)
			}
		}
	})
}

func TestTrace(t *testing.T) {
	const a, b = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-01"
	for _, tt := range []struct {
		name       string
		header     http.Header
		extensions map[string]any
		want       http.Header
	}{
		{"none", nil, nil, nil},
		{"the request's", http.Header{"Traceparent": {a}, "Tracestate": {"x=1"}}, map[string]any{"traceparent": b}, http.Header{"Traceparent": {a}, "Tracestate": {"x=1"}}},
		{"the event's", nil, map[string]any{"traceparent": b, "tracestate": "y=2"}, http.Header{"Traceparent": {b}, "Tracestate": {"y=2"}}},
		{"nonsense", nil, map[string]any{"traceparent": "a\r\nb", "tracestate": "y=2"}, nil},
		{"a number", nil, map[string]any{"traceparent": int32(3)}, nil},
		{"hostile state", nil, map[string]any{"traceparent": b, "tracestate": "ü"}, http.Header{"Traceparent": {b}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, trace(tt.header, tt.extensions)); diff != "" {
				t.Error(diff)
			}
		})
	}
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
		{"array", "/category/predict", `[` + shirt + `]`, nil, 400, "object"},
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
	inBubble(t, func(t *testing.T) {
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
	inBubble(t, func(t *testing.T) {
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

func TestOverload(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	inBubble(t, func(t *testing.T) {
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
	inBubble(t, func(t *testing.T) {
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

func TestNoLegAnswersOverHTTP(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	good := composition(t, twoLegs)
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

// Names under .localhost are loopback, whatever a resolver says.
func TestLocalhostIsDialledAsLoopback(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(&classifier{name: "title", reads: []string{"title"}, says: says("Shirts", 1.0)})
	srv.Listener = ln
	srv.Start()
	defer srv.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	tr := NewTransport()
	defer tr.CloseIdleConnections()
	c, err := New(Options{Composition: composition(t, twoLegs), LegURL: "http://{service}.{namespace}.localhost:" + port, Transport: tr})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	res, err := c.Compose(context.Background(), Product{Product: product.Product{Title: "x"}})
	if err != nil || res.Category.Label != "Shirts" {
		t.Errorf("%v %+v", err, res)
	}
	for host, want := range map[string]bool{"localhost": true, "a.b.localhost": true, "A.LOCALHOST.": true, "localhost.com": false, "xlocalhost": false} {
		if isLocalhost(host) != want {
			t.Errorf("%s: %v", host, !want)
		}
	}
}
