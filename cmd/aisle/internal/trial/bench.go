package trial

import (
	"context"
	"fmt"
	"slices"
	"time"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/product"
)

// Plan is what [Bench] measures.
type Plan struct {
	Library, Device  string
	Batches, Threads []int
	For              time.Duration // in all; shared evenly
	Products         []product.Product
	Dim              int64              // of dimensions that vary, but the first, where tensors are served
	Progress         func(part float64) // called now and then
}

// Point is one measurement: one caller, one run after the other.
type Point struct {
	Threads int     `json:"threads"`
	Batch   int     `json:"batch"`
	Runs    int     `json:"runs"`
	Rate    float64 `json:"rowsPerSecond"`
	P50     float64 `json:"p50Ms"`
	P95     float64 `json:"p95Ms"`
	P99     float64 `json:"p99Ms"`
}

// Figures are a bench's.
type Figures struct {
	Model   string  `json:"model"`
	Digest  string  `json:"digest"`
	Device  string  `json:"device"`
	Runtime string  `json:"onnxruntime"`
	Points  []Point `json:"points"`
}

// maxRuns bounds the memory of one measurement.
const maxRuns = 1 << 20

// Bench runs the graph in this process, for each number of threads and each
// batch size: what a server could reach at best, on inputs that are made
// beforehand. Preprocessing is not in it.
func Bench(ctx context.Context, p *model.Package, plan Plan) (Figures, error) {
	f, err := newFeed(ctx, p, plan.Products, plan.Dim)
	if err != nil {
		return Figures{}, err
	}
	defer f.release()
	figures := Figures{Model: p.Spec.Name, Digest: p.Digest}
	steps := len(plan.Threads) * len(plan.Batches)
	share := plan.For / time.Duration(max(1, steps))
	began := time.Now()
	for _, threads := range plan.Threads {
		s, err := Open(p, plan.Library, plan.Device, threads)
		if err != nil {
			return figures, err
		}
		figures.Device, figures.Runtime = s.Device(), onnx.Version()
		for _, n := range plan.Batches {
			point, err := measure(ctx, s, f.batch(n), len(p.Spec.Outputs), share, func() {
				plan.Progress(min(1, time.Since(began).Seconds()/plan.For.Seconds()))
			})
			if err != nil {
				_ = s.Close() // the run's error says more
				return figures, fmt.Errorf("a batch of %d: %w", n, err)
			}
			point.Threads, point.Batch = threads, n
			point.Rate *= float64(n)
			figures.Points = append(figures.Points, point)
		}
		if err := s.Close(); err != nil {
			return figures, err
		}
	}
	return figures, nil
}

// measure runs one batch again and again for a while; Rate is in runs.
func measure(ctx context.Context, s *onnx.Session, in []onnx.Tensor, outputs int, during time.Duration, progress func()) (Point, error) {
	out := make([]onnx.Tensor, outputs)
	if err := s.Run(ctx, in, out); err != nil { // the first run allocates
		return Point{}, err
	}
	var took []time.Duration
	began := time.Now()
	for at := began; at.Sub(began) < during && len(took) < maxRuns || len(took) == 0; {
		clear(out)
		if err := s.Run(ctx, in, out); err != nil {
			return Point{}, err
		}
		now := time.Now()
		took = append(took, now.Sub(at))
		at = now
		progress()
	}
	all := time.Since(began)
	slices.Sort(took)
	quantile := func(q float64) float64 {
		return float64(took[int(q*float64(len(took)-1))].Nanoseconds()) / 1e6
	}
	return Point{Runs: len(took), Rate: float64(len(took)) / all.Seconds(), P50: quantile(0.5), P95: quantile(0.95), P99: quantile(0.99)}, nil
}
