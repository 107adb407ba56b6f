package classify_test

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/imaging"
	"aisle.dev/aisle/internal/ngrams"
	"aisle.dev/aisle/internal/onnx"
)

const benchTitle = "Puma Men Top Fluctuation Red Black Tshirt"

func models(b *testing.B, name string) string {
	b.Helper()
	dir := filepath.Join("..", "..", "models", name)
	if _, err := os.Stat(filepath.Join(dir, "model.onnx")); err != nil {
		b.Skip("models/" + name + " is not there; make models trains it")
	}
	return dir
}

func benchPhoto(b *testing.B) []byte {
	b.Helper()
	data, err := os.ReadFile("../imaging/testdata/base420.jpg")
	if err != nil {
		b.Fatal(err)
	}
	return data
}

// BenchmarkTitle and BenchmarkPhoto are what one product costs without HTTP:
// preprocessing and a run of the trained graph, of one product and of eight
// (an op is one product in both).
func BenchmarkTitle(b *testing.B) {
	p := loadPackage(b, models(b, "title"))
	s := openSession(b, p)
	for _, n := range []int{1, 8} {
		b.Run(map[int]string{1: "batch1", 8: "batch8"}[n], func(b *testing.B) {
			b.ReportAllocs()
			out := []onnx.Tensor{{Shape: []int64{int64(n), int64(len(p.Labels))}, F32: make([]float32, n*len(p.Labels))}}
			for i := 0; i < b.N; i += n {
				var ids []int32
				var weights []float32
				for range n { // equally long rows: nothing to pad
					id, w := p.Spec.Preprocess.HashedNgrams.Features([]ngrams.Field{{Name: "title", Text: benchTitle}})
					ids, weights = append(ids, id...), append(weights, w...)
				}
				shape := []int64{int64(n), int64(len(ids) / n)}
				if err := s.Run(b.Context(), []onnx.Tensor{{Shape: shape, I32: ids}, {Shape: shape, F32: weights}}, out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPhoto(b *testing.B) {
	p := loadPackage(b, models(b, "photo"))
	s := openSession(b, p)
	data := benchPhoto(b)
	im := *p.Spec.Preprocess.Image
	size := 3 * im.Width * im.Height
	for _, n := range []int{1, 8} {
		b.Run(map[int]string{1: "batch1", 8: "batch8"}[n], func(b *testing.B) {
			b.ReportAllocs()
			in := []onnx.Tensor{{Shape: []int64{int64(n), 3, int64(im.Height), int64(im.Width)}, F32: make([]float32, n*size)}}
			out := []onnx.Tensor{{Shape: []int64{int64(n), int64(len(p.Labels))}, F32: make([]float32, n*len(p.Labels))}}
			for i := 0; i < b.N; i += n {
				for k := range n {
					if err := imaging.Tensor(in[0].F32[k*size:(k+1)*size], data, im); err != nil {
						b.Fatal(err)
					}
				}
				if err := s.Run(b.Context(), in, out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHandlerTitle and BenchmarkHandlerPhoto are the whole handler,
// without the network: what HTTP, JSON, the queue and calibration add to the
// two above.
func BenchmarkHandlerTitle(b *testing.B) {
	benchHandler(b, "title", "application/json", `{"id":"1","title":"`+benchTitle+`","attributes":{"gender":"Men"}}`)
}

func BenchmarkHandlerPhoto(b *testing.B) {
	benchHandler(b, "photo", "image/jpeg", string(benchPhoto(b)))
}

func benchHandler(b *testing.B, name, contentType, body string) {
	r := start(b, models(b, name), nil, nil)
	h := r.c.Handler()
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		req := httptest.NewRequest("POST", "/v1/classify", strings.NewReader(body))
		req.Header.Set("Content-Type", contentType)
		h.ServeHTTP(w, req)
		if w.Code != 200 {
			b.Fatalf("%d %s", w.Code, w.Body)
		}
	}
}
