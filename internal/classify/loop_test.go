package classify_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"aisle.dev/aisle/internal/imaging"
	"aisle.dev/aisle/internal/onnx"
)

// BenchmarkLoopPhoto compares what 32 clients in a closed loop get of a
// classifier over HTTP with what a loop in the process gets, of products with
// a title and a picture. An op is a product.
func BenchmarkLoopPhoto(b *testing.B) {
	body := `{"id":"1","title":"` + benchTitle + `","images":[{"data":"` + base64.StdEncoding.EncodeToString(benchPhoto(b)) + `"}]}`
	b.Run("process", func(b *testing.B) {
		p := loadPackage(b, models(b, "photo"))
		s := openSession(b, p)
		im, data := *p.Spec.Preprocess.Image, benchPhoto(b)
		var left atomic.Int64
		left.Store(int64(b.N))
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				in := []onnx.Tensor{{Shape: []int64{1, 3, int64(im.Height), int64(im.Width)}, F32: make([]float32, 3*im.Width*im.Height)}}
				out := []onnx.Tensor{{Shape: []int64{1, int64(len(p.Labels))}, F32: make([]float32, len(p.Labels))}}
				for left.Add(-1) >= 0 {
					if err := imaging.Tensor(in[0].F32, data, im); err != nil {
						b.Error(err)
						return
					}
					if err := s.Run(b.Context(), in, out); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
	b.Run("served", func(b *testing.B) { benchLoop(b, "photo", body, 32) })
}

// BenchmarkLoopTitle is the same of titles.
func BenchmarkLoopTitle(b *testing.B) {
	benchLoop(b, "title", `{"id":"1","title":"`+benchTitle+`","attributes":{"gender":"Men"}}`, 32)
}

func benchLoop(b *testing.B, name, body string, clients int) {
	r := start(b, models(b, name), nil, nil)
	request := fmt.Sprintf("POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			answers := bufio.NewReader(conn)
			for left.Add(-1) >= 0 {
				if _, err := io.WriteString(conn, request); err != nil {
					b.Error(err)
					return
				}
				resp, err := http.ReadResponse(answers, nil)
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Error(resp, err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
			}
		})
	}
	wg.Wait()
}
