package main

import (
	"context"
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"time"

	"aisle.dev/aisle/internal/draw"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/preprocess"
	"aisle.dev/aisle/internal/product"
)

// tolerance is how far an output on the device may be from the CPU's, which
// adds in another order: a logit's difference that moves a probability by less
// than a thousandth.
const tolerance = 2e-3

// compare runs real inputs in batches of each of the package's sizes on both
// devices, and says how many products a second each takes.
func compare(ctx context.Context, w io.Writer, name, device string, window time.Duration) error {
	pkg, err := model.Load("models/" + name)
	if err != nil {
		return err
	}
	prep, err := preprocess.New(pkg, preprocess.Options{})
	if err != nil {
		return err
	}
	open := func(device string) (*onnx.Session, error) {
		return onnx.Open(pkg.Graph, onnx.Options{Inputs: pkg.Spec.InputNames(), Outputs: pkg.Spec.OutputNames(), Device: device})
	}
	cpu, err := open(onnx.CPU)
	if err != nil {
		return err
	}
	defer cpu.Close()
	other, err := open(device)
	if err != nil {
		return err
	}
	defer other.Close()

	var errs []error
	for _, size := range pkg.Spec.BatchSizes {
		samples := make([]preprocess.Sample, size)
		for i := range samples {
			if samples[i], err = sample(ctx, prep, i); err != nil {
				return err
			}
		}
		in := prep.Tensors(samples, new(preprocess.Buffers))
		want, each, err := rate(ctx, cpu, in, len(pkg.Spec.Outputs), window)
		if err != nil {
			return err
		}
		got, there, err := rate(ctx, other, in, len(pkg.Spec.Outputs), window)
		if err != nil {
			return err
		}
		most, err := apart(want, got)
		if err == nil && most > tolerance {
			err = fmt.Errorf("the outputs differ by %g, and %g is allowed", most, tolerance)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("batch of %d: %w", size, err))
		}
		fmt.Fprintf(w, "%s, batches of %d: outputs differ by %.2g; %.0f products/s on %s, %.0f on %s\n",
			name, size, most, float64(size)/each.Seconds(), onnx.CPU, float64(size)/there.Seconds(), other.Device())
	}
	return errors.Join(errs...)
}

// sample makes a product of a title and a picture, of which a package reads
// what it reads.
func sample(ctx context.Context, prep *preprocess.Preprocessor, i int) (preprocess.Sample, error) {
	canvas, err := draw.New(false, 120, 160)
	if err != nil {
		return nil, err
	}
	shade := color.RGBA{uint8(37 * i), uint8(91 * i), 120, 255}
	canvas.Fill(draw.Box(draw.At(20, 30), draw.At(100, 130)), shade)
	canvas.Dot(draw.At(60, 20+float64(i%100)), 18, color.RGBA{20, 20, 20, 255})
	picture, err := canvas.Bytes()
	if err != nil {
		return nil, err
	}
	titles := []string{"Titan Women Silver Watch %d", "Nike Men Running Shoes size %d", "Blue cotton shirt, pack of %d"}
	return prep.Product(ctx, product.Product{Title: fmt.Sprintf(titles[i%len(titles)], i), Images: []product.Image{{Data: picture}}})
}

// rate gives what a run answers, and how long one takes: the mean of as many
// as fit into the window.
func rate(ctx context.Context, s *onnx.Session, in []onnx.Tensor, outputs int, window time.Duration) ([]onnx.Tensor, time.Duration, error) {
	out := make([]onnx.Tensor, outputs)
	if err := s.Run(ctx, in, out); err != nil { // the first is slower, and not counted
		return nil, 0, err
	}
	began, n := time.Now(), 0
	for n == 0 || time.Since(began) < window {
		if err := s.Run(ctx, in, make([]onnx.Tensor, outputs)); err != nil {
			return nil, 0, err
		}
		n++
	}
	return out, time.Since(began) / time.Duration(n), nil
}

// apart is the largest difference of two answers' elements; not a number if
// one of those is none.
func apart(a, b []onnx.Tensor) (float64, error) {
	most := 0.0
	for i := range a {
		if len(a[i].F32) != len(b[i].F32) || len(a[i].F32) == 0 {
			return math.NaN(), fmt.Errorf("output %d has %d elements on one device and %d on the other", i, len(a[i].F32), len(b[i].F32))
		}
		for j, v := range a[i].F32 {
			d := math.Abs(float64(v - b[i].F32[j]))
			if math.IsNaN(d) {
				return d, fmt.Errorf("element %d of output %d is %g on one device and %g on the other", j, i, v, b[i].F32[j])
			}
			most = max(most, d)
		}
	}
	return most, nil
}
