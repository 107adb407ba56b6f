package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/curves"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/cmd/aisle/internal/trial"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/product"
)

func (a *app) modelBench() *cobra.Command {
	var given productFlags
	var file, format, plot string
	plan := trial.Plan{}
	cmd := &cobra.Command{
		Use:   "bench MODEL",
		Short: "Measure how fast a model runs, by batch size and number of threads",
		Long: `Run a model in this process, one batch after the other, for each batch size and
each number of threads: rows a second and how long a run takes. Preprocessing
and the network are not in it: it is what a server could reach at best. Inputs
are of a usual size unless a product is given; for graphs without preprocessing
they are zeros.`,
		Example: `  aisle model bench models/title
  aisle model bench models/photo --batch 1,4,8,16 --threads 1,2 --for 30s --plot photo.svg
  aisle model bench models/title --title "Men blue denim jeans" -o json
  aisle model bench resnet50.onnx --device cuda`,
		Args: exactly(1, oneModel),
		RunE: func(cmd *cobra.Command, args []string) error {
			if plot != "" && !curves.Known(plot) {
				return usagef("--plot %s: use a name that ends in .png or .svg", plot)
			}
			if err := checkPlan(&plan); err != nil {
				return err
			}
			if file != "" || given.given() {
				p, err := given.productOr(a, file)
				if err != nil {
					return err
				}
				plan.Products = []product.Product{p}
			}
			s := trial.Read(args[0])
			if len(s.Problems) > 0 {
				return firstOf(s.Problems)
			}
			var err error
			if plan.Library, err = a.library(); err != nil {
				return err
			}
			if len(plan.Batches) == 0 {
				plan.Batches = s.Package.Spec.BatchSizes
			}
			bar, runs := screen.NewProgress(a.err, time.Now(), "runs"), 0
			plan.Progress = func(part float64) { runs++; bar.Set(time.Now(), runs, 0, part) }
			figures, err := trial.Bench(cmd.Context(), s.Package, plan)
			bar.Clear()
			if err != nil {
				return err
			}
			if plot != "" {
				data, err := figures.Plot(strings.EqualFold(filepath.Ext(plot), ".svg"))
				if err == nil {
					err = os.WriteFile(plot, data, 0o644)
				}
				if err != nil {
					return fmt.Errorf("draw the rates: %w", err)
				}
				a.err.Printf("drawn: %s\n", plot)
			}
			if format != "table" {
				return writeAs(a.out, format, figures)
			}
			a.showFigures(figures)
			return nil
		},
	}
	f := cmd.Flags()
	given.flags(cmd)
	f.StringVar(&file, "product", "", "a file with a product as JSON, or - for standard input")
	f.IntSliceVar(&plan.Batches, "batch", nil, "batch sizes (default: the package's)")
	f.IntSliceVar(&plan.Threads, "threads", []int{1, runtime.GOMAXPROCS(0)}, "threads that run one batch together")
	f.Lookup("threads").DefValue = "1 and one a core" // so that help does not depend on the machine
	f.DurationVar(&plan.For, "for", 10*time.Second, "how long to measure, in all")
	f.Int64Var(&plan.Dim, "dim", 16, "of dimensions that vary, but the first, in graphs without preprocessing")
	deviceFlag(cmd, &plan.Device)
	f.StringVar(&plot, "plot", "", "draw the rate over the batch size into this .png or .svg file")
	output(cmd, &format, "table", "json", "yaml")
	return cmd
}

// checkPlan bounds what a bench does.
func checkPlan(p *trial.Plan) error {
	slices.Sort(p.Threads)
	p.Threads = slices.Compact(p.Threads) // on one core the defaults are one
	slices.Sort(p.Batches)
	p.Batches = slices.Compact(p.Batches)
	for _, n := range p.Batches {
		if n < 1 || n > model.MaxBatch {
			return usagef("--batch %d: use 1 to %d", n, model.MaxBatch)
		}
	}
	for _, n := range p.Threads {
		if n < 1 || n > model.MaxThreads {
			return usagef("--threads %d: use 1 to %d", n, model.MaxThreads)
		}
	}
	switch {
	case len(p.Batches) > 64 || len(p.Threads) > 16 || len(p.Threads) == 0:
		return usagef("--batch, --threads: use at most 64 batch sizes, and 1 to 16 numbers of threads")
	case p.For <= 0 || p.For > time.Hour:
		return usagef("--for %v: use a duration above 0, at most an hour", p.For)
	case p.Dim < 1 || p.Dim > 1<<16:
		return usagef("--dim %d: use 1 to %d", p.Dim, 1<<16)
	}
	return checkDevice(p.Device)
}

func (a *app) showFigures(f trial.Figures) {
	a.out.Printf("%s on %s, ONNX Runtime %s\n\n", a.out.Paint(screen.Bold, f.Model), f.Device, f.Runtime)
	var rows [][]screen.Cell
	millis := func(v float64) screen.Cell { return screen.Cell{Text: fmt.Sprintf("%.3f", v)} }
	for _, p := range f.Points {
		rows = append(rows, []screen.Cell{{Text: fmt.Sprint(p.Threads)}, {Text: fmt.Sprint(p.Batch)}, {Text: screen.Thousands(p.Runs)}, {Text: screen.Thousands(int(p.Rate + 0.5))}, millis(p.P50), millis(p.P95), millis(p.P99)})
	}
	screen.Write(a.out, []screen.Column{{Name: "THREADS", Right: true}, {Name: "BATCH", Right: true}, {Name: "RUNS", Right: true}, {Name: "ROWS/S", Right: true}, {Name: "P50 MS", Right: true}, {Name: "P95 MS", Right: true}, {Name: "P99 MS", Right: true}}, rows)
}
