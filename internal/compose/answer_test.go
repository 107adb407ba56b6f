package compose

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/product"
)

func TestParseReads(t *testing.T) {
	for header, want := range map[string][]string{
		"title":                            {"title"},
		"title, attributes.gender ,images": {"title", "attributes.gender", "images"},
		"":                                 nil,
		"title,colour":                     nil,
		"attributes.":                      nil,
		"title,,images":                    nil,
		strings.Repeat("title,", 2000):     nil,
	} {
		if diff := cmp.Diff(want, parseReads(header)); diff != "" {
			t.Errorf("%.40q: %s", header, diff)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"":                              0,
		"3":                             3 * time.Second,
		"-3":                            0,
		"1e9":                           0,
		"99999999999999999999":          0,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second,
		"Fri, 02 Jan 2020 03:04:15 GMT": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {v}}, now); got != want {
			t.Errorf("%q: %s, want %s", v, got, want)
		}
	}
}

func TestColdStart(t *testing.T) {
	type phases = []category.Phase
	for v, want := range map[string]struct {
		wake   float64
		phases phases
	}{
		"wake;dur=41.5":                 {wake: 41.5},
		`db;dur=1, wake;desc="x";dur=2`: {wake: 2},
		"wake;dur=41.5, queued;dur=0.1, runtime;dur=20, odd, first;dur=-1": {41.5, phases{{Name: "queued", Ms: 0.1}, {Name: "runtime", Ms: 20}}},
		"decode;dur=1, infer;dur=2":                                        {},
		"wake":                                                             {},
		"wake;dur=-1":                                                      {},
		"wake;dur=Inf":                                                     {},
		"wake;dur=NaN":                                                     {},
		"awake;dur=3":                                                      {},
	} {
		wake, got := coldStart(http.Header{"Server-Timing": {v}})
		if wake != want.wake || !cmp.Equal(got, want.phases) {
			t.Errorf("%q: %v and %v, want %v", v, wake, got, want)
		}
	}
}

// What a leg is sent is always a valid product, has all the fields that the
// leg reads, and none that the other legs alone read.
func TestPayload(t *testing.T) {
	fields := []string{"title", "description", "brand", "images", "attributes.a", "attributes.b"}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"", "x", " "})
		p := product.Product{ID: "1", Title: text.Draw(t, "title"), Description: text.Draw(t, "description"), Brand: text.Draw(t, "brand")}
		if v := text.Draw(t, "a"); v != "" {
			p.Attributes = map[string]string{"a": v, "b": "y"}
		}
		p.Images = rapid.SampledFrom([][]product.Image{nil, {{Data: png}}, {{URL: "http://x/"}}, {{Data: []byte("no picture")}}}).Draw(t, "images")
		if p.Validate() != nil {
			return
		}
		reads := rapid.SliceOfNDistinct(rapid.SampledFrom(fields), 1, 3, rapid.ID[string]).Draw(t, "reads")
		load, err := payloadFor(p, nil, reads)
		if err != nil {
			t.Fatal(err)
		}
		if load.contentType == "image/png" {
			if len(reads) != 1 || reads[0] != "images" || string(load.body) != string(png) {
				t.Fatalf("raw picture for %v", reads)
			}
			return
		}
		got, err := product.Decode(load.body)
		if err != nil {
			t.Fatalf("%s: %v", load.body, err)
		}
		if diff := cmp.Diff(p.Only(reads), got.Only(reads)); diff != "" {
			t.Fatalf("lost: %s", diff)
		}
		if len(keptBack(p, load, reads)) > 0 {
			t.Fatal("keptBack")
		}
	})
}

func TestKeptBack(t *testing.T) {
	p := product.Product{Title: "x", Brand: "y"}
	sent := payload{fields: []string{"title"}}
	if got := keptBack(p, sent, []string{"title", "brand", "description"}); !cmp.Equal(got, []string{"brand"}) {
		t.Errorf("got %v", got)
	}
	if got := keptBack(p, payload{}, []string{"brand"}); got != nil {
		t.Errorf("all was sent, but %v", got)
	}
}

func FuzzParseAnswer(f *testing.F) {
	good := `{"model":{"name":"a","version":"1","digest":"sha256:` + hex64 + `"},"predictions":[{"label":"a","probability":%s}]}`
	for _, p := range []string{"0.5", "1e-400", "1e400", "NaN", "-0"} {
		f.Add([]byte(fmt.Sprintf(good, p)))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseAnswer(body)
		if err != nil {
			_, _ = parseRefusal(body)
			return
		}
		seen := map[string]bool{}
		for _, p := range r.Predictions {
			if seen[p.Label] || math.IsNaN(p.Probability) || p.Probability < 0 || p.Probability > 1 {
				t.Fatalf("%+v", r)
			}
			seen[p.Label] = true
		}
		if b := best(r.Predictions); b.Label == "" {
			t.Fatal("no best")
		}
	})
}
