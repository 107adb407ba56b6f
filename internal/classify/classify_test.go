package classify_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"aisle.dev/aisle/internal/classify"
	"aisle.dev/aisle/internal/classify/classifytest"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/metrics"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/ortlib"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/serve"
	"aisle.dev/aisle/internal/spans"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func loadPackage(t testing.TB, dir string) *model.Package {
	t.Helper()
	p, err := model.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func openSession(t testing.TB, p *model.Package) *onnx.Session {
	t.Helper()
	lib, err := ortlib.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := onnx.Init(lib); err != nil {
		t.Fatal(err)
	}
	var in []string
	for _, x := range p.Spec.Inputs {
		in = append(in, x.Name)
	}
	s, err := onnx.Open(p.Graph, onnx.Options{Inputs: in, Outputs: []string{p.Spec.Outputs[0].Name}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// running is a classifier behind a real server on loopback.
type running struct {
	url    string
	c      *classify.Classifier
	health *serve.Health
	client *http.Client
}

// start runs a classifier of the package, on session (a real one when nil),
// until the test ends, and waits until it is ready.
func start(t testing.TB, dir string, session classify.Session, set func(*classify.Options)) *running {
	t.Helper()
	p := loadPackage(t, dir)
	if session == nil {
		session = openSession(t, p)
	}
	shown := metrics.New()
	ready := make(chan struct{})
	o := classify.Options{Package: p, Metrics: shown, Health: new(serve.Health), Timeout: 30 * time.Second, OnReady: func(string) { close(ready) }}
	if set != nil {
		set(&o)
	}
	c, err := classify.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving, stopServing := context.WithCancel(context.Background())
	working, stopWorking := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := serve.Run(serving, serve.Options{Listener: ln, Handler: c.Handler(), Health: o.Health, Metrics: shown, Grace: 5 * time.Second}); err != nil {
			t.Error(err)
		}
		stopWorking()
	})
	wg.Go(func() {
		if err := c.Run(working, session); err != nil {
			t.Error(err)
		}
	})
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(func() { stopServing(); wg.Wait(); tr.CloseIdleConnections() })
	<-ready
	return &running{url: "http://" + ln.Addr().String(), c: c, health: o.Health, client: &http.Client{Transport: tr, Timeout: 30 * time.Second}}
}

type reply struct {
	code   int
	header http.Header
	body   []byte
}

func (r *running) do(t testing.TB, method, path, contentType string, body []byte, headers ...string) reply {
	t.Helper()
	req, err := http.NewRequest(method, r.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, data}
}

func (r reply) result(t testing.TB) prediction.Result {
	t.Helper()
	var res prediction.Result
	dec := json.NewDecoder(bytes.NewReader(r.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&res); err != nil || r.code != 200 {
		t.Fatalf("%d %s: %v", r.code, r.body, err)
	}
	return res
}

func picture(t testing.TB, c color.Color) []byte {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, 20, 10))
	for i := range 200 {
		m.Set(i%20, i/20, c)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var (
	red  = color.NRGBA{R: 255, A: 255}
	blue = color.NRGBA{B: 255, A: 255}
)

func TestClassifyTitles(t *testing.T) {
	dir := classifytest.Title(t)
	r := start(t, dir, nil, nil)
	for title, want := range map[string]string{"a blue cotton SHIRT": "Shirts", "steel watch": "Watches", "running sneaker, size 9": "Shoes"} {
		body, _ := json.Marshal(product.Product{ID: "p-1", Title: title, Attributes: map[string]string{"usage": "casual", "unread": "x"}})
		got := r.do(t, "POST", "/v1/classify", "application/json", body)
		res := got.result(t)
		if res.Top().Label != want || res.ID != "p-1" || res.Device != "cpu" || len(res.Predictions) != 3 {
			t.Errorf("%s: %+v, want %s", title, res, want)
		}
		sum := 0.0
		for i, p := range res.Predictions {
			sum += p.Probability
			if i > 0 && p.Probability > res.Predictions[i-1].Probability {
				t.Errorf("%s: not by falling probability: %+v", title, res.Predictions)
			}
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Errorf("%s: probabilities add up to %v", title, sum)
		}
		if d := cmp.Diff(prediction.Model{Name: "title", Version: "1.0.0", Digest: loadPackage(t, dir).Digest}, res.Model); d != "" {
			t.Error(d)
		}
		if h := got.header.Get(prediction.HeaderReads); h != "title,attributes.usage" {
			t.Errorf("%s: %q", prediction.HeaderReads, h)
		}
		var queue, prep, infer float64
		if n, err := fmt.Sscanf(got.header.Get("Server-Timing"), "queue;dur=%f, preprocess;dur=%f, infer;dur=%f", &queue, &prep, &infer); n != 3 || infer <= 0 {
			t.Errorf("Server-Timing %q: %v", got.header.Get("Server-Timing"), err)
		}
	}
}

func TestTop(t *testing.T) {
	r := start(t, classifytest.Title(t), nil, nil)
	body := []byte(`{"title":"shirt"}`)
	for query, want := range map[string]int{"": 3, "?top=1": 1, "?top=2": 2, "?top=all": 3, "?top=99": 3, "?top=": 3} {
		if n := len(r.do(t, "POST", "/v1/classify"+query, "application/json", body).result(t).Predictions); n != want {
			t.Errorf("%q: %d predictions, want %d", query, n, want)
		}
	}
}

func TestClassifyPictures(t *testing.T) {
	r := start(t, classifytest.Photo(t), nil, nil)
	b64 := func(c color.Color) string { return base64.StdEncoding.EncodeToString(picture(t, c)) }
	tests := []struct {
		name, contentType string
		body              []byte
		want, id          string
	}{
		{"raw", "image/png", picture(t, blue), "Blue", ""},
		{"raw, declared as another kind", "image/jpeg", picture(t, red), "Red", ""},
		{"inline", "application/json", []byte(`{"id":"x","title":"a red shirt","images":[{"data":"` + b64(blue) + `"}]}`), "Blue", "x"},
		{"without a Content-Type", "", []byte(`{"images":[{"data":"` + b64(red) + `"}]}`), "Red", ""},
		{"the first of several", "application/json", []byte(`{"images":[{"data":"` + b64(red) + `"},{"data":"` + b64(blue) + `"}]}`), "Red", ""},
		{"the first inline one", "application/json; charset=utf-8", []byte(`{"images":[{"url":"https://example.com/a.jpg"},{"data":"` + b64(blue) + `"}]}`), "Blue", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := r.do(t, "POST", "/v1/classify", tt.contentType, tt.body)
			if res := got.result(t); res.Top().Label != tt.want || res.ID != tt.id {
				t.Errorf("%+v, want %s", res, tt.want)
			}
			if h := got.header.Get(prediction.HeaderReads); h != "images" {
				t.Errorf("%s: %q", prediction.HeaderReads, h)
			}
		})
	}
}

func TestEvents(t *testing.T) {
	r := start(t, classifytest.Title(t), nil, nil)
	in, err := event.NewProduct("/shop", "e-1", product.Product{ID: "p-1", Title: "a watch"})
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, structured := range []bool{false, true} {
		h, body, err := event.Encode(in, structured)
		if err != nil {
			t.Fatal(err)
		}
		req, _ := http.NewRequest("POST", r.url+"/?top=1", bytes.NewReader(body))
		req.Header = h
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		out, mode, err := event.Decode(resp.Header, data)
		if err != nil || mode != structured || resp.StatusCode != 200 {
			t.Fatalf("structured %v: %d %s: %v", structured, resp.StatusCode, data, err)
		}
		var res prediction.Result
		if err := json.Unmarshal(out.Data(), &res); err != nil {
			t.Fatal(err)
		}
		if res.Top().Label != "Watches" || len(res.Predictions) != 1 || res.ID != "p-1" {
			t.Errorf("structured %v: %+v", structured, res)
		}
		if out.Type() != event.TypePrediction || out.Subject() != "p-1" || out.Source() != "/aisle/classifier/title" || out.Extensions()["causationid"] != "e-1" {
			t.Errorf("structured %v: %s", structured, out)
		}
		if resp.Header.Get(prediction.HeaderReads) == "" || resp.Header.Get("Server-Timing") == "" {
			t.Errorf("structured %v: headers %v", structured, resp.Header)
		}
		ids[out.ID()] = true
	}
	if len(ids) != 1 {
		t.Errorf("the same event got answers of the ids %v", ids)
	}
}

func TestDescribe(t *testing.T) {
	r := start(t, classifytest.Photo(t), nil, nil)
	got := r.do(t, "GET", "/", "", nil)
	var m map[string]any
	if err := json.Unmarshal(got.body, &m); err != nil {
		t.Fatal(err)
	}
	if m["labels"] != 3.0 || m["device"] != "cpu" || m["model"].(map[string]any)["name"] != "photo" {
		t.Errorf("%s", got.body)
	}
}

func TestMetrics(t *testing.T) {
	r := start(t, classifytest.Title(t), nil, nil)
	r.do(t, "POST", "/v1/classify", "application/json", []byte(`{"title":"shirt"}`))
	r.do(t, "POST", "/v1/classify", "application/json", []byte(`{`))
	body := string(r.do(t, "GET", "/metrics", "", nil).body)
	for _, want := range []string{
		`aisle_classifier_requests_total{code="200",route="classify"} 1`, `aisle_classifier_requests_total{code="400",route="classify"} 1`,
		`aisle_classifier_request_duration_seconds_count{route="classify"} 2`, `aisle_classifier_batch_size_sum 1`,
		`aisle_classifier_queue_seconds_count 1`, `aisle_classifier_preprocess_seconds_count 2`, `aisle_classifier_postprocess_seconds_count 1`,
		`aisle_classifier_inference_seconds_count 1`, `aisle_classifier_queue_length 0`, `aisle_classifier_requests_inside 0`,
		`aisle_classifier_model_info{device="cpu",digest="sha256:`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
}

// What a product gets does not depend on who it shares a batch with.
func TestConcurrentAnswersAreTheSame(t *testing.T) {
	r := start(t, classifytest.Title(t), nil, nil)
	titles := []string{"shirt", "a long title about a watch and a clock and another watch", "shoe", "nothing that is known", "tee shirt with a sneaker"}
	want := map[string]prediction.Result{}
	post := func(title string) prediction.Result {
		body, _ := json.Marshal(product.Product{Title: title})
		return r.do(t, "POST", "/v1/classify", "application/json", body).result(t)
	}
	for _, title := range titles {
		want[title] = post(title)
	}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 30 {
				title := titles[(g+i)%len(titles)]
				got := post(title)
				for k, p := range got.Predictions {
					if q := want[title].Predictions[k]; p.Label != q.Label || math.Abs(p.Probability-q.Probability) > 1e-6 {
						t.Errorf("%q: %+v, alone %+v", title, got.Predictions, want[title].Predictions)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestGraphThatDoesNotFit(t *testing.T) {
	p := loadPackage(t, classifytest.Title(t))
	s := openSession(t, loadPackage(t, classifytest.Photo(t)))
	c, err := classify.New(classify.Options{Package: p})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context(), s); err == nil || !strings.Contains(err.Error(), "do the inputs and outputs of model.yaml fit the graph?") {
		t.Errorf("got %v", err)
	}
}

func TestNewErrors(t *testing.T) {
	p := loadPackage(t, classifytest.Title(t))
	for name, change := range map[string]func(*classify.Options){
		"queue":      func(o *classify.Options) { o.Queue = -1 },
		"body":       func(o *classify.Options) { o.MaxBody = 1 << 40 },
		"timeout":    func(o *classify.Options) { o.Timeout = -1 },
		"no workers": func(o *classify.Options) { o.Workers = -1 },
	} {
		o := classify.Options{Package: p}
		change(&o)
		if _, err := classify.New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A request that is part of a trace has a span in it, and its failure's log
// names it.
func TestTraces(t *testing.T) {
	got := make(chan string, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- string(body)
	}))
	defer collector.Close()
	exporter, err := spans.New(func(k string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL}[k]
	}, "title", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	g := newGate()
	close(g.pass)
	var broken atomic.Bool
	g.fill = func(out []float32) {
		if broken.Load() {
			out[0] = float32(math.NaN())
		}
	}
	var log bytes.Buffer
	r := start(t, classifytest.Title(t), g, func(o *classify.Options) {
		o.Spans, o.Logger = exporter, slog.New(slog.NewTextHandler(&log, nil))
	})
	const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent := []string{"Traceparent", "00-" + traceID + "-00f067aa0ba902b7-01"}
	r.do(t, "POST", "/v1/classify", "application/json", []byte(`{"title":"shirt"}`), parent...)
	r.do(t, "POST", "/v1/classify", "application/json", []byte(`{"title":"shirt"}`)) // in no trace
	r.do(t, "GET", "/v2/health/live", "", nil, parent...)
	broken.Store(true)
	r.do(t, "POST", "/v1/classify", "application/json", []byte(`{"title":"shirt"}`), parent...)
	ended, end := context.WithCancel(t.Context())
	end()
	exporter.Run(ended)
	body := <-got
	for want, times := range map[string]int{`"traceId":"` + traceID: 3, `"name":"POST classify"`: 2, `"name":"GET oip"`: 1, `"status":{"code":2}`: 1, `queue;dur=`: 1} {
		if n := strings.Count(body, want); n != times {
			t.Errorf("%q is there %d times, want %d: %s", want, n, times, body)
		}
	}
	if !strings.Contains(log.String(), "traceId="+traceID) {
		t.Errorf("log %q", log.String())
	}
}
