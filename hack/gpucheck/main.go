// Command gpucheck runs the classifiers where a GPU is: `make gpu-check`. It
// holds their answers on the GPU against the CPU's, measures starts and rates on
// both, and sees that a GPU that is not there is an error of one line.
//
// It exits with 0 when all is well, with 1 when something is not, and with 3
// when there is no GPU, so that nothing was checked.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"aisle.dev/aisle/activator/engine/slots"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/ortlib"
)

const noGPU = 3

// effort is how long to measure.
type effort struct {
	starts int           // of each package on each device
	rate   time.Duration // for each batch size
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Stdout, os.Stderr))
}

func run(ctx context.Context, stdout, stderr io.Writer) int {
	gpus := slots.Detect(ctx, os.Getenv("CUDA_VISIBLE_DEVICES"))
	if len(gpus) == 0 {
		fmt.Fprintln(stderr, "gpucheck: there is no GPU here (NVIDIA's driver shows none): nothing was checked")
		return noGPU
	}
	fmt.Fprintf(stdout, "%d GPU(s)\n", len(gpus))
	lib, err := ortlib.FindGPU(ctx)
	if err != nil {
		fmt.Fprintln(stderr, "gpucheck:", err)
		return 1
	}
	if err := check(ctx, stdout, lib, onnx.CUDA, effort{starts: 5, rate: 500 * time.Millisecond}); err != nil {
		fmt.Fprintln(stderr, "gpucheck:", err)
		return 1
	}
	fmt.Fprintln(stdout, "all is well")
	return 0
}

// check holds a device against the CPU. All of it is done, whatever fails.
func check(ctx context.Context, w io.Writer, lib, device string, e effort) error {
	if err := onnx.Init(lib); err != nil {
		return err
	}
	fmt.Fprintf(w, "ONNX Runtime %s, %s against %s\n", onnx.Version(), device, onnx.CPU)
	var errs []error
	for _, name := range []string{"title", "photo"} {
		if err := compare(ctx, w, name, device, e.rate); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		for _, d := range []string{onnx.CPU, device, onnx.Auto} {
			if err := starts(ctx, w, name, lib, d, device, e.starts); err != nil {
				errs = append(errs, fmt.Errorf("%s on %s: %w", name, d, err))
			}
		}
	}
	return errors.Join(append(errs, absent(ctx, w, lib))...)
}
