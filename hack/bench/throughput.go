package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"aisle.dev/aisle/internal/imaging"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/ngrams"
	"aisle.dev/aisle/internal/onnx"
)

// throughput categorises the same products twice in every round: through the
// whole system (aisle send --wait: this machine runs the sender, the engine,
// the composer and the classifiers), and in one process that reads the
// picture, decodes it and runs both models, one product after the other on
// each core.
func throughput(ctx context.Context, b *bench) ([]row, error) {
	list, what, err := items(b.data, b.products)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "aisle-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	feed := filepath.Join(dir, "products.csv")
	if err := writeFeed(feed, list); err != nil {
		return nil, err
	}
	both, err := openBoth()
	if err != nil {
		return nil, err
	}
	defer both.close()
	return withEngine(ctx, func(r *running) ([]row, error) {
		var system, loop sample
		if _, err := send(ctx, r, feed, min(200, len(list))); err != nil { // pods are up, pages are cached
			return nil, err
		}
		for i := range b.rounds {
			s, err := send(ctx, r, feed, len(list))
			if err != nil {
				return nil, err
			}
			l, err := both.loop(ctx, list)
			if err != nil {
				return nil, err
			}
			system, loop = append(system, s), append(loop, l)
			fmt.Fprintf(b.log, "\rthroughput: %d of %d", i+1, b.rounds)
		}
		fmt.Fprintln(b.log)
		return []row{
			{fmt.Sprintf("aisle send --wait, %d %s, products/s", len(list), what), system.String(), ""},
			{"  in-process loop of the same work, products/s", loop.String(), ""},
			{"  share of the in-process loop", system.over(loop).String(), "≥ 0.5"},
		}, nil
	})
}

func writeFeed(name string, list []item) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := csv.NewWriter(f)
	err = w.Write([]string{"id", "title", "image"})
	for _, it := range list {
		abs, absErr := filepath.Abs(it.image)
		err = errors.Join(err, absErr, w.Write([]string{it.id, it.title, abs}))
	}
	w.Flush()
	return errors.Join(err, w.Error(), f.Close())
}

// send runs aisle send --wait over the first n products and returns products
// per second, counting its answers.
func send(ctx context.Context, r *running, feed string, n int) (float64, error) {
	cmd := exec.CommandContext(ctx, "bin/aisle", "send", "--wait", "-o", "ndjson", "--limit", fmt.Sprint(n),
		"--to", "http://composer.default.localhost:"+r.address[strings.LastIndexByte(r.address, ':')+1:], feed)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	answers, readErr := countLines(out)
	if err := errors.Join(readErr, cmd.Wait()); err != nil {
		return 0, fmt.Errorf("aisle send: %w\n%s", err, stderr.String())
	}
	seconds := time.Since(start).Seconds()
	if answers != n {
		return 0, fmt.Errorf("aisle send gave %d answers for %d products", answers, n)
	}
	return float64(n) / seconds, nil
}

func countLines(r io.Reader) (int, error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	n := 0
	for s.Scan() {
		n++
	}
	return n, s.Err()
}

// firstCategory returns after how many seconds the first line with a category
// path came out of a demo, and reads the rest.
func firstCategory(r io.Reader, start time.Time) (float64, error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	seconds := 0.0
	for s.Scan() {
		if seconds == 0 && strings.Contains(s.Text(), " > ") {
			seconds = time.Since(start).Seconds()
		}
	}
	if seconds == 0 && s.Err() == nil {
		return 0, errors.New("no category came out")
	}
	return seconds, s.Err()
}

// both holds the two models in this process.
type both struct {
	title, photo struct {
		*model.Package
		*onnx.Session
	}
}

func openBoth() (*both, error) {
	if err := onnx.Init("bin/" + onnx.LibraryName); err != nil {
		return nil, err
	}
	var m both
	var err error
	for dir, into := range map[string]*struct {
		*model.Package
		*onnx.Session
	}{"models/title": &m.title, "models/photo": &m.photo} {
		if into.Package, err = model.Load(dir); err != nil {
			return nil, err
		}
		if into.Session, err = onnx.Open(into.Graph, onnx.Options{Inputs: into.Spec.InputNames(), Outputs: into.Spec.OutputNames()}); err != nil {
			return nil, err
		}
	}
	return &m, nil
}

func (m *both) close() error { return errors.Join(m.title.Close(), m.photo.Close()) }

// loop classifies every product with both models on all cores and returns
// products per second.
func (m *both) loop(ctx context.Context, list []item) (float64, error) {
	start := time.Now()
	var next atomic.Int64
	errs := make([]error, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			im := m.photo.Spec.Preprocess.Image
			pixels := make([]float32, 3*im.Width*im.Height)
			for errs[i] == nil {
				k := int(next.Add(1)) - 1
				if k >= len(list) {
					return
				}
				errs[i] = m.classify(ctx, list[k], pixels, *im)
			}
		})
	}
	wg.Wait()
	return float64(len(list)) / time.Since(start).Seconds(), errors.Join(errs...)
}

func (m *both) classify(ctx context.Context, it item, pixels []float32, im model.Image) error {
	data, err := os.ReadFile(it.image)
	if err != nil {
		return err
	}
	if err := imaging.Tensor(pixels, data, im); err != nil {
		return err
	}
	out := []onnx.Tensor{{}}
	if err := m.photo.Run(ctx, []onnx.Tensor{{Shape: []int64{1, 3, int64(im.Height), int64(im.Width)}, F32: pixels}}, out); err != nil {
		return err
	}
	best(out[0].F32)
	ids, weights := m.title.Spec.Preprocess.HashedNgrams.Features([]ngrams.Field{{Name: "title", Text: it.title}})
	shape := []int64{1, int64(len(ids))}
	out = []onnx.Tensor{{}}
	if err := m.title.Run(ctx, []onnx.Tensor{{Shape: shape, I32: ids}, {Shape: shape, F32: weights}}, out); err != nil {
		return err
	}
	best(out[0].F32)
	return nil
}

func best(p []float32) int { return slices.Index(p, slices.Max(p)) }
