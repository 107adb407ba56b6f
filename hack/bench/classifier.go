package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/preprocess"
	"aisle.dev/aisle/internal/product"
)

// turn is how long one side of a comparison runs before the other's turn.
const turn = 3 * time.Second

// within holds one model in this process, with the preprocessing that serves.
type within struct {
	pkg     *model.Package
	session *onnx.Session
	prep    *preprocess.Preprocessor
}

func openWithin(dir string) (*within, error) {
	if err := onnx.Init("bin/" + onnx.LibraryName); err != nil {
		return nil, err
	}
	pkg, err := model.Load(dir)
	if err != nil {
		return nil, err
	}
	prep, err := preprocess.New(pkg, preprocess.Options{})
	if err != nil {
		return nil, err
	}
	var o onnx.Options
	for _, t := range pkg.Spec.Inputs {
		o.Inputs = append(o.Inputs, t.Name)
	}
	for _, t := range pkg.Spec.Outputs {
		o.Outputs = append(o.Outputs, t.Name)
	}
	s, err := onnx.Open(pkg.Graph, o)
	if err != nil {
		return nil, err
	}
	return &within{pkg, s, prep}, nil
}

// run classifies products of one batch.
func (w *within) run(ctx context.Context, batch []product.Product, b *preprocess.Buffers) error {
	samples := make([]preprocess.Sample, len(batch))
	for i, p := range batch {
		s, err := w.prep.Product(ctx, p)
		if err != nil {
			return err
		}
		defer s.Release()
		samples[i] = s
	}
	out := []onnx.Tensor{{}}
	if err := w.session.Run(ctx, w.prep.Tensors(samples, b), out); err != nil {
		return err
	}
	best(out[0].F32)
	return nil
}

// loop classifies products over and over in batches of n on every core, and
// returns products/s.
func (w *within) loop(ctx context.Context, products []product.Product, n int, last time.Duration) (float64, error) {
	var next atomic.Int64
	errs := make([]error, runtime.GOMAXPROCS(0))
	start := time.Now()
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			var b preprocess.Buffers
			batch := make([]product.Product, n)
			for time.Since(start) < last && errs[i] == nil {
				for k := range batch {
					batch[k] = products[int(next.Add(1))%len(products)]
				}
				errs[i] = w.run(ctx, batch, &b)
			}
		})
	}
	wg.Wait()
	return float64(next.Load()) / time.Since(start).Seconds(), errors.Join(errs...)
}

// traffic is products for one model: as they are, and as requests' bodies. The
// photo's have their titles too: it is the classifier that picks.
type traffic struct {
	products []product.Product
	bodies   [][]byte
	what     string
}

func (b *bench) traffic(pictures bool) (traffic, error) {
	list, what, err := items(b.data, 400)
	if err != nil {
		return traffic{}, err
	}
	w := traffic{what: what}
	for _, it := range list {
		p := product.Product{ID: it.id, Title: it.title}
		if pictures {
			data, err := os.ReadFile(it.image)
			if err != nil {
				return traffic{}, err
			}
			p.Images = []product.Image{{Data: data}}
		}
		body, err := productJSON(p, nil)
		if err != nil {
			return traffic{}, err
		}
		w.products, w.bodies = append(w.products, p), append(w.bodies, body)
	}
	return w, nil
}

// requests are the bodies, ready for a connection to address.
func (w traffic) requests(address string) [][]byte {
	var all [][]byte
	for _, b := range w.bodies {
		all = append(all, request(address, "/v1/classify", b))
	}
	return all
}

// driven runs a classifier and n connections to it.
func driven(ctx context.Context, dir string, n int, use func(*pod, *wire) ([]row, error), env ...string) ([]row, error) {
	p, err := startClassifier(ctx, dir, env...)
	if err != nil {
		return nil, err
	}
	w, err := dial(ctx, p.address, n)
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	rows, err := use(p, w)
	return rows, errors.Join(err, w.close(), p.stop())
}

// photoClosed drives the photo classifier by 32 clients that each wait for
// their answer, in turn with a loop in this process that decodes, resizes and
// runs the same pictures on all cores. The clients take part of the same
// cores; how much is told.
func photoClosed(ctx context.Context, b *bench) ([]row, error) {
	const clients = 32
	in, err := openWithin("models/photo")
	if err != nil {
		return nil, err
	}
	defer in.session.Close()
	work, err := b.traffic(true)
	if err != nil {
		return nil, err
	}
	return driven(ctx, "models/photo", clients, func(p *pod, w *wire) ([]row, error) {
		requests := work.requests(p.address)
		if _, err := w.closed(ctx, requests, turn/3); err != nil { // all batch sizes are warm after it
			return nil, err
		}
		var served, loop, latency, generator sample
		for i := range max(5, b.rounds) {
			l, err := w.closed(ctx, requests, turn)
			if err != nil {
				return nil, err
			}
			r, err := in.loop(ctx, work.products, 1, turn)
			if err != nil {
				return nil, err
			}
			served, loop = append(served, l.rate), append(loop, r)
			latency, generator = append(latency, l.latencies.quantile(0.95)), append(generator, l.generator)
			fmt.Fprintf(b.log, "\rphoto-closed: %d of %d", i+1, max(5, b.rounds))
		}
		fmt.Fprintln(b.log)
		return []row{
			{fmt.Sprintf("photo, %d clients, %s, products/s", clients, work.what), served.String(), ""},
			{"  p95, ms; cores that the clients took", fmt.Sprintf("%.3g; %.2f of %d", latency.median(), generator.median(), runtime.NumCPU()), ""},
			{"  in-process loop, products/s", loop.String(), ""},
			{"  share of the in-process loop", served.over(loop).String(), "≥ 0.7"},
		}, nil
	})
}

// batching compares what batches gain behind HTTP with what they gain ONNX
// Runtime in a process. Served, it is the rate of 32 clients under batches as
// the package declares them over that of the same package with batches of one.
func batching(ctx context.Context, b *bench) ([]row, error) {
	var rows []row
	for _, name := range []string{"title", "photo"} {
		r, err := batchingOf(ctx, b, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

func batchingOf(ctx context.Context, b *bench, name string) ([]row, error) {
	const clients = 32
	dir := filepath.Join("models", name)
	in, err := openWithin(dir)
	if err != nil {
		return nil, err
	}
	defer in.session.Close()
	work, err := b.traffic(name == "photo")
	if err != nil {
		return nil, err
	}
	singles, err := withoutBatches(dir)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(singles)
	largest := slices.Max(in.pkg.Spec.BatchSizes)
	return driven(ctx, dir, clients, func(p *pod, many *wire) ([]row, error) {
		return driven(ctx, singles, clients, func(q *pod, one *wire) ([]row, error) {
			sides := []struct {
				*wire
				requests [][]byte
			}{{many, work.requests(p.address)}, {one, work.requests(q.address)}}
			var rates, tails [2]sample
			var gain sample
			for i := range max(5, b.rounds) {
				for k, side := range sides {
					if i == 0 {
						if _, err := side.closed(ctx, side.requests, turn/3); err != nil {
							return nil, err
						}
					}
					l, err := side.closed(ctx, side.requests, turn)
					if err != nil {
						return nil, err
					}
					rates[k], tails[k] = append(rates[k], l.rate), append(tails[k], l.latencies.quantile(0.95))
				}
				full, err := in.loop(ctx, work.products, largest, turn)
				if err != nil {
					return nil, err
				}
				single, err := in.loop(ctx, work.products, 1, turn)
				if err != nil {
					return nil, err
				}
				gain = append(gain, full/single)
				fmt.Fprintf(b.log, "\rbatching, %s: %d of %d", name, i+1, max(5, b.rounds))
			}
			fmt.Fprintln(b.log)
			return []row{
				{fmt.Sprintf("%s, %d clients, batches up to %d, products/s", name, clients, largest), rates[0].String(), ""},
				{"  p95, ms: batches; single", fmt.Sprintf("%.3g; %.3g", tails[0].median(), tails[1].median()), ""},
				{"  gain over batches of one, served", rates[0].over(rates[1]).String(), ""},
				{fmt.Sprintf("  gain of batches of %d in process", largest), gain.String(), ""},
				{"  of that, kept when served", rates[0].over(rates[1]).over(gain).String(), "≥ 0.95"},
			}, nil
		})
	})
}

// withoutBatches is a copy of a package that is run one product at a time.
func withoutBatches(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "model.yaml"))
	if err != nil {
		return "", err
	}
	var spec map[string]any
	if err := yaml.Unmarshal(data, &spec); err != nil {
		return "", err
	}
	spec["batchSizes"] = []int{1}
	if data, err = yaml.Marshal(spec); err != nil {
		return "", err
	}
	to, err := os.MkdirTemp("", "aisle-bench-")
	if err != nil {
		return "", err
	}
	err = errors.Join(os.CopyFS(to, os.DirFS(dir)), os.WriteFile(filepath.Join(to, "model.yaml"), data, 0o600))
	return to, err
}

// classifierOverhead asks the title classifier 200 times a second, whether or
// not it has answered, and calls the same model in this process as often. A check
// of its health, as often too, says what HTTP alone takes here between processes
// that sleep in between.
func classifierOverhead(ctx context.Context, b *bench) ([]row, error) {
	const every, connections = 5 * time.Millisecond, 8
	in, err := openWithin("models/title")
	if err != nil {
		return nil, err
	}
	defer in.session.Close()
	work, err := b.traffic(false)
	if err != nil {
		return nil, err
	}
	return driven(ctx, "models/title", connections, func(p *pod, w *wire) ([]row, error) {
		requests := work.requests(p.address)
		var buffers preprocess.Buffers
		free := make(chan int, connections)
		for i := range connections {
			free <- i
		}
		serve := func(k int) error {
			i := <-free
			defer func() { free <- i }()
			_, err := w.exchange(i, requests[k%len(requests)])
			return err
		}
		call := func(k int) error {
			return in.run(ctx, work.products[k%len(work.products):][:1], &buffers)
		}
		blank := []byte("GET /healthz HTTP/1.1\r\nHost: " + p.address + "\r\n\r\n")
		nothing := func(int) error {
			i := <-free
			defer func() { free <- i }()
			_, err := w.exchange(i, blank)
			return err
		}
		var added, tail, shares, floor sample
		for i := range max(10, b.rounds) {
			s, err := paced(ctx, every, turn, connections, serve)
			if err != nil {
				return nil, err
			}
			c, err := paced(ctx, every, turn, 1, call)
			if err != nil {
				return nil, err
			}
			n, err := paced(ctx, every, turn, connections, nothing)
			if err != nil {
				return nil, err
			}
			if i > 0 { // all are warm
				added, tail = append(added, s.median()-c.median()), append(tail, s.quantile(0.99)-c.quantile(0.99))
				shares, floor = append(shares, c.median()), append(floor, n.median())
			}
			fmt.Fprintf(b.log, "\rclassifier-overhead: %d of %d", i+1, max(10, b.rounds))
		}
		fmt.Fprintln(b.log)
		return []row{
			{"title at 200/s, over the call in process, p50, ms", added.String(), "≤ 0.25 ms"},
			{"  p99, ms", tail.String(), "≤ 1 ms"},
			{"  the call in process, p50, ms", shares.String(), ""},
			{"  GET /healthz at 200/s, p50, ms", floor.String(), ""},
		}, nil
	})
}

// paced calls do at fixed moments, up to n at once, and returns how long after
// its moment each was done, in milliseconds.
func paced(ctx context.Context, every, last time.Duration, n int, do func(k int) error) (sample, error) {
	count := int(last / every)
	took, errs := make(sample, count), make([]error, count)
	slots := make(chan struct{}, n)
	var wg sync.WaitGroup
	start := time.Now().Add(every)
	for k := range count {
		due := start.Add(time.Duration(k) * every)
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			wg.Wait()
			return nil, ctx.Err()
		}
		slots <- struct{}{}
		// From the wake-up, which both sides pay alike and which is the timer's,
		// unless places were short: then from when it was due.
		from := time.Now()
		if len(slots) == n && n > 1 {
			from = due
		}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[k] = do(k)
			took[k] = float64(time.Since(from).Microseconds()) / 1000
		})
	}
	wg.Wait()
	return took, errors.Join(errs...)
}

// execReady starts both classifiers again and again, interleaved.
func execReady(ctx context.Context, b *bench) ([]row, error) {
	kinds := []struct{ name, ready, memory string }{
		{"title", "≤ 45 ms", "≤ 60 MB"},
		{"photo", "≤ 80 ms", "≤ 90 MB"},
	}
	ready, memory := make([]sample, len(kinds)), make([]sample, len(kinds))
	phases := make([]map[string]sample, len(kinds))
	for i := range b.n + 1 {
		for k, kind := range kinds {
			work, err := b.traffic(kind.name == "photo")
			if err != nil {
				return nil, err
			}
			_, err = driven(ctx, filepath.Join("models", kind.name), 1, func(p *pod, w *wire) ([]row, error) {
				if _, err := w.exchange(0, request(p.address, "/v1/classify", work.bodies[0])); err != nil {
					return nil, err
				}
				m, err := pss(p.cmd.Process.Pid)
				if i == 0 { // the first fills the page cache
					return nil, err
				}
				ready[k], memory[k] = append(ready[k], p.readyMs), append(memory[k], m)
				if phases[k] == nil {
					phases[k] = make(map[string]sample)
				}
				for name, ms := range p.phases {
					phases[k][name] = append(phases[k][name], ms)
				}
				return nil, err
			})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", kind.name, err)
			}
		}
		fmt.Fprintf(b.log, "\rexec-ready: %d of %d", i, b.n)
	}
	fmt.Fprintln(b.log)
	var rows []row
	for k, kind := range kinds {
		var reached []string
		for name, s := range phases[k] {
			reached = append(reached, fmt.Sprintf("%06.1f %s %.1f", s.median(), name, s.median()))
		}
		slices.Sort(reached)
		for i, r := range reached {
			_, reached[i], _ = strings.Cut(r, " ")
		}
		rows = append(rows,
			row{"exec to ready, " + kind.name + ", ms", ready[k].String(), kind.ready},
			row{"  phases as the classifier tells them, ms (medians)", strings.Join(reached, ", "), ""},
			row{"  PSS after one answer, MB", memory[k].String(), kind.memory})
	}
	return rows, nil
}
