package metrics_test

import (
	"bytes"
	"math"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"aisle.dev/aisle/internal/metrics"
)

// read gives the text, and what Prometheus' own parser makes of it.
func read(t testing.TB, s *metrics.Set) (string, map[string]*dto.MetricFamily) {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if got := w.Header().Get("Content-Type"); got != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(w.Body.Bytes()))
	if err != nil {
		t.Fatalf("%v\n%s", err, w.Body)
	}
	return w.Body.String(), families
}

func TestText(t *testing.T) {
	s := metrics.New()
	s.Counter("b_total", "Without labels.").Inc()
	c := s.Counter("a_total", "A \\ and\na second line.", "code", "leg")
	c.Inc("500", "title")
	c.Inc("200", "photo")
	c.Inc("200", "photo")
	s.Counter("unused_total", "No series yet.", "code")
	g := s.Gauge("state", "Two series.", "leg")
	g.Func(func() float64 { return 2 }, "title")
	g.Func(func() float64 { return math.Inf(-1) }, "photo")
	s.Gauge("now", "One.").Func(func() float64 { return .5 })
	h := s.Histogram("took_seconds", "By size.", []float64{.1, 1}, "leg")
	for _, v := range []float64{.05, .1, .5, 7} { // a bound is in its bucket
		h.Observe(v, "title")
	}
	got, _ := read(t, s)
	want := `# HELP a_total A \\ and\na second line.
# TYPE a_total counter
a_total{code="200",leg="photo"} 2
a_total{code="500",leg="title"} 1
# HELP b_total Without labels.
# TYPE b_total counter
b_total 1
# HELP now One.
# TYPE now gauge
now 0.5
# HELP state Two series.
# TYPE state gauge
state{leg="photo"} -Inf
state{leg="title"} 2
# HELP took_seconds By size.
# TYPE took_seconds histogram
took_seconds_bucket{leg="title",le="0.1"} 2
took_seconds_bucket{leg="title",le="1"} 3
took_seconds_bucket{leg="title",le="+Inf"} 4
took_seconds_sum{leg="title"} 7.65
took_seconds_count{leg="title"} 4
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// A series without labels is there before its first use; a gauge's is there once
// there is something to ask.
func TestUnused(t *testing.T) {
	s := metrics.New()
	s.Counter("a_total", "")
	s.Histogram("b", "", []float64{1})
	s.Gauge("c", "")
	got, _ := read(t, s)
	for _, line := range []string{"a_total 0\n", `b_bucket{le="+Inf"} 0` + "\n", "b_sum 0\n", "b_count 0\n"} {
		if !strings.Contains(got, line) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	if strings.Contains(got, "c ") {
		t.Errorf("the gauge is there:\n%s", got)
	}
}

func TestMistakesPanic(t *testing.T) {
	s := metrics.New()
	c := s.Counter("a_total", "", "code")
	for name, do := range map[string]func(){
		"a name that is taken": func() { s.Gauge("a_total", "") },
		"a label too few":      func() { c.Inc() },
		"a label too many":     func() { c.Inc("200", "title") },
		"bounds that fall":     func() { s.Histogram("h", "", []float64{2, 1}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s does not panic", name)
				}
			}()
			do()
		}()
	}
}

func TestConcurrent(t *testing.T) {
	s := metrics.New()
	c, h := s.Counter("a_total", "", "of"), s.Histogram("b", "", []float64{1}, "of")
	const workers, each = 8, 500
	var wg sync.WaitGroup
	for i := range workers {
		of := string('a' + rune(i%2))
		wg.Go(func() {
			for range each {
				c.Inc(of)
				h.Observe(.5, of)
			}
		})
		wg.Go(func() { read(t, s) })
	}
	wg.Wait()
	_, all := read(t, s)
	for i := range 2 {
		const want = workers * each / 2
		if n := all["a_total"].Metric[i].Counter.GetValue(); n != want {
			t.Errorf("counted %v, want %v", n, want)
		}
		if h := all["b"].Metric[i].Histogram; h.GetSampleCount() != want || h.Bucket[0].GetCumulativeCount() != want || h.GetSampleSum() != want*.5 {
			t.Errorf("observed %v, want %v", h, want)
		}
	}
}

// Whatever a label's value and the help are, Prometheus reads them back.
func FuzzText(f *testing.F) {
	f.Add("200", "Requests.")
	f.Add("a\"b\\n\nc", "x\\\n# TYPE a_total gauge")
	f.Add("\xff} 7\n", "\xfe")
	f.Fuzz(func(t *testing.T, value, help string) {
		if !utf8.ValidString(help) {
			t.Skip("help is written by us")
		}
		s := metrics.New()
		s.Counter("a_total", help, "label").Inc(value)
		_, all := read(t, s)
		want := strings.ToValidUTF8(value, "\ufffd")
		if m := all["a_total"].GetMetric(); len(all) != 1 || len(m) != 1 || m[0].Label[0].GetValue() != want || m[0].Counter.GetValue() != 1 {
			t.Errorf("%q is read back as %v", value, all)
		}
	})
}
