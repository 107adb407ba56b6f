package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/product"
)

const trivialLegs = `apiVersion: aisle.dev/v1alpha1
kind: Composition
metadata: {name: trivial}
spec:
  legs:
    - {name: title, service: title}
    - {name: photo, service: photo, weight: 0.8, when: legs.title.confidence < 0.99}
  reducer: {type: logpool}
`

// composeCost is what bin/composer takes of its own for a product, by its
// Server-Timing, with two legs of 80 labels that answer at once, one of them
// behind a gate; and how many products it answers when it, its legs and their
// sender share the machine.
func composeCost(ctx context.Context, b *bench) (rows []row, err error) {
	dir, err := os.MkdirTemp("", "aisle-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "composition.yaml")
	if err := os.WriteFile(file, []byte(trivialLegs), 0o600); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	legs := &http.Server{Handler: trivialLeg()}
	go func() { _ = legs.Serve(listener) }() // ends by Close
	defer legs.Close()
	composer, err := startServer(ctx, nil, func(port string) []string {
		return []string{"env", "PORT=" + port, "HOST=127.0.0.1", "COMPOSITION=" + file, "LEG_URL=http://" + listener.Addr().String() + "/{service}", "bin/composer"}
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, composer.stop()) }()

	body, err := json.Marshal(product.Product{Title: "Red cotton shirt for men", Images: []product.Image{{Data: append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 10<<10)...)}}})
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	var own sample
	for range b.requests {
		resp, err := client.Post("http://"+composer.address+"/category/predict", "application/json", bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("the composer answered %s: %w", resp.Status, err)
		}
		_, after, _ := strings.Cut(resp.Header.Get("Server-Timing"), "compose;dur=")
		ms, err := strconv.ParseFloat(after, 64)
		if err != nil {
			return nil, fmt.Errorf("the composer's Server-Timing: %w", err)
		}
		own = append(own, ms)
	}
	w, err := dial(ctx, composer.address, 32)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	before, err := cpuSeconds(composer.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	all, err := w.closed(ctx, [][]byte{request(composer.address, "/category/predict", body)}, 5*time.Second)
	if err != nil {
		return nil, err
	}
	after, err := cpuSeconds(composer.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	each := 1000 * (after - before) / float64(len(all.latencies))
	return []row{
		{"composer's own cost for a product, p50 / p99", fmt.Sprintf("%.2f / %.2f ms", own.quantile(0.5), own.quantile(0.99)), "≤ 0.3 / 1.5 ms"},
		{"products/s, sender and trivial legs on the same cores", fmt.Sprintf("%.0f (the sender and the legs took %.2f cores, the composer %.2f ms of one for a product)", all.rate, all.generator, each), "≥ 5,000"},
	}, nil
}

// trivialLeg answers every product with the same 80 labels.
func trivialLeg() http.Handler {
	answer := prediction.Result{Model: prediction.Model{Name: "trivial", Version: "1", Digest: "sha256:" + strings.Repeat("0", 64)}, Device: "cpu"}
	for i := range 80 {
		answer.Predictions = append(answer.Predictions, prediction.Prediction{Label: fmt.Sprintf("Article Type %d", i), Probability: 1.0 / 80})
	}
	body, err := json.Marshal(answer)
	if err != nil {
		panic(err) // it is a constant
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		reads := "title"
		if strings.HasPrefix(r.URL.Path, "/photo/") {
			reads = "images"
		}
		w.Header().Set(prediction.HeaderReads, reads)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})
}
