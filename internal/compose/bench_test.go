package compose

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/product"
)

// canned answers each leg without a network: what is left is the composer.
type canned map[string][]byte

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	_, _ = io.Copy(io.Discard, r.Body)
	service, _, _ := strings.Cut(r.URL.Host, ".")
	body := c[service]
	reads := map[string]string{"title": "title,attributes.colour", "photo": "images"}[service]
	return &http.Response{StatusCode: 200, Header: http.Header{prediction.HeaderReads: {reads}}, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
}

// answerOf has n labels, as a classifier of article types gives them.
func answerOf(name string, n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	r := prediction.Result{Model: prediction.Model{Name: name, Version: "1", Digest: "sha256:" + hex64}, Device: "cpu"}
	rest := 1.0
	for i := range n {
		p := rest * (0.3 + 0.5*rng.Float64())
		rest -= p
		label := fmt.Sprintf("Article Type %d", i)
		if i == 0 {
			label = "Shirts" // which the taxonomy knows
		}
		r.Predictions = append(r.Predictions, prediction.Prediction{Label: label, Probability: p})
	}
	buf, _ := json.Marshal(r)
	return buf
}

// BenchmarkProduct is the composer's own work for a product with a picture of
// 10 KB and two legs of 80 labels.
func BenchmarkProduct(b *testing.B) { benchProduct(b, Options{Composition: parsed(b, twoLegs)}) }

// BenchmarkProductClosures is the same with a file of closures to look at.
func BenchmarkProductClosures(b *testing.B) {
	path := filepath.Join(b.TempDir(), "closures.json")
	if err := os.WriteFile(path, []byte(`{"default/brand":[["2026-11-27T22:00:00Z","2026-11-28T06:00:00Z"]]}`), 0o600); err != nil {
		b.Fatal(err)
	}
	benchProduct(b, Options{Composition: parsed(b, twoLegs), Closures: path})
}

// BenchmarkProductVariants is the same where the second leg has two services, of
// which the GPU one is ready.
func BenchmarkProductVariants(b *testing.B) {
	benchProduct(b, Options{Composition: parsed(b, strings.Replace(twoLegs, "service: photo", "variants: {gpu: photo, cpu: photo-cpu}", 1))})
}

func benchProduct(b *testing.B, o Options) {
	o.Transport = canned{"title": answerOf("title", 80), "photo": answerOf("photo", 80), "photo-cpu": answerOf("photo", 80)}
	c, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	h := c.Handler()
	body, _ := json.Marshal(product.Product{ID: "p1", Title: "Red cotton shirt for men", Attributes: map[string]string{"colour": "Red"},
		Images: []product.Image{{Data: append(bytes.Clone(png), make([]byte, 10<<10)...)}}})
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/category/predict", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatal(w.Code, w.Body)
		}
	}
}
