package onnx

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// ErrClosed is what a run after [Session.Close] gets.
var ErrClosed = errors.New("the session is closed")

// Session is one loaded graph.
type Session struct {
	device   string
	fallback error
	inputs   []Port
	outputs  []Port

	// mu is read-held by each run and write-held by Close.
	mu sync.RWMutex
	s  *ort.DynamicAdvancedSession // nil once closed; guarded by mu
}

// Device is where the session runs: CPU or CUDA.
func (s *Session) Device() string { return s.device }

// Fallback is why the CPU took the place of a GPU, where either would do and
// this is so; nil else.
func (s *Session) Fallback() error { return s.fallback }

// Keys are the columns of the output at i of the session's when it is a
// zipmap, and nil else.
func (s *Session) Keys(i int) []string { return s.outputs[i].Keys }

// Run runs the graph. in has one tensor for each declared input. out has one
// for each declared output: with a shape and elements, which are written, or
// the zero Tensor, which is replaced by one of the runtime's shape. Scalars,
// strings and 16-bit floats come only in place of the zero Tensor. A zipmap
// comes as FP32 [rows, keys].
//
// When ctx ends first, the run is told to stop, which it does between two of
// the graph's nodes, and Run returns ctx's error; what is in out is then
// undefined. in and out must not be used by others until Run has returned.
func (s *Session) Run(ctx context.Context, in, out []Tensor) error {
	if len(in) != len(s.inputs) || len(out) != len(s.outputs) {
		return fmt.Errorf("%d inputs and %d outputs given; the session has %d and %d", len(in), len(out), len(s.inputs), len(s.outputs))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.s == nil {
		return ErrClosed
	}

	// Deferred in this order: values are destroyed first, then their memory is
	// unpinned.
	var pin runtime.Pinner
	defer pin.Unpin()
	values := make([]ort.Value, len(in)+len(out))
	defer func() {
		for _, v := range values {
			destroy(v)
		}
	}()
	ins, outs := values[:len(in):len(in)], values[len(in):]
	for i, t := range in {
		v, err := t.value(&pin)
		if err != nil {
			return fmt.Errorf("input %s: %w", s.inputs[i].Name, err)
		}
		ins[i] = v
	}
	for i, t := range out {
		v, err := s.outputs[i].room(t, &pin)
		if err != nil {
			return fmt.Errorf("output %s: %w", s.outputs[i].Name, err)
		}
		outs[i] = v
	}

	if err := s.run(ctx, ins, outs); err != nil {
		return err
	}
	for i := range out {
		if !out[i].isZero() {
			continue
		}
		t, err := take(outs[i], s.outputs[i])
		if err != nil {
			return fmt.Errorf("output %s: %w", s.outputs[i].Name, err)
		}
		out[i] = t
	}
	return nil
}

// room is where the runtime is to write an output: nil where it makes room
// itself.
func (p Port) room(t Tensor, pin *runtime.Pinner) (ort.Value, error) {
	switch {
	case !t.isZero() && (len(t.Shape) == 0 || t.Type() == BYTES || p.Datatype == FP16 || p.Datatype == BF16):
		return nil, errors.New("scalars, strings and 16-bit floats have memory of the runtime's only: give the zero Tensor")
	case !t.isZero():
		return t.value(pin)
	case p.Shape != nil && len(p.Shape) == 0 && p.Datatype != BYTES:
		// onnxruntime_go makes no room for a scalar, but takes one.
		e := elements[p.Datatype]
		if e.scalar == nil { // widened
			e = elements[FP32]
		}
		return e.scalar(make([]byte, e.size))
	}
	return nil, nil
}

// run calls the runtime, and stops it when ctx ends.
func (s *Session) run(ctx context.Context, ins, outs []ort.Value) error {
	var opts *ort.RunOptions
	if ctx.Done() != nil {
		var err error
		if opts, err = ort.NewRunOptions(); err != nil {
			return fmt.Errorf("run options: %w", err)
		}
		defer func() { _ = opts.Destroy() }()
		stopped := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(stopped)
			_ = opts.Terminate() // sets a flag; the run's error says that it was seen
		})
		// A callback that has begun must end before its options are destroyed.
		defer func() {
			if !stop() {
				<-stopped
			}
		}()
	}
	if err := s.s.RunWithOptions(ins, outs, opts); err != nil {
		if cause := ctx.Err(); cause != nil {
			return cause
		}
		return fmt.Errorf("run graph: %w", err)
	}
	return nil
}

// Close waits for the runs in flight and frees the graph. A second Close does
// nothing.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.s == nil {
		return nil
	}
	err := s.s.Destroy()
	s.s = nil
	return err
}
