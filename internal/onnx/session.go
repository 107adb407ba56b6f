package onnx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// Devices that a session can be asked to run on.
const (
	CPU  = "cpu"
	CUDA = "cuda"
	Auto = "auto" // cuda where there is one, else cpu
)

// ErrClosed is what a run after [Session.Close] gets.
var ErrClosed = errors.New("the session is closed")

// Options of [Open].
type Options struct {
	Inputs  []string // the graph's input names, in the order in which Run takes them
	Outputs []string // the names of the outputs wanted, in the order of Run's
	Device  string   // CPU, CUDA or Auto; empty means CPU
	// Threads run one node of the graph together. 0 means 1: a server has
	// other requests for its other cores, and threads that wait for each
	// other cost more than they give on small graphs.
	Threads int
}

// Session is one loaded graph.
type Session struct {
	device  string
	inputs  int
	outputs []string

	// mu is read-held by each run and write-held by Close.
	mu sync.RWMutex
	s  *ort.DynamicAdvancedSession // nil once closed; guarded by mu
}

// Open loads the graph at path. A graph with external data finds it beside
// the file.
func Open(path string, o Options) (*Session, error) {
	if err := initialised(); err != nil {
		return nil, err
	}
	if len(o.Inputs) == 0 || len(o.Outputs) == 0 {
		return nil, fmt.Errorf("open %s: name the graph's inputs and outputs", path)
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open graph: %w", err)
	}
	var why error
	switch o.Device {
	case CUDA, Auto:
		s, err := open(path, o, CUDA)
		if err == nil {
			return s, nil
		}
		if o.Device == CUDA {
			return nil, fmt.Errorf("device cuda was asked for and is not usable: %w", err)
		}
		why = err
	case "", CPU:
	default:
		return nil, fmt.Errorf("device %q: want cpu, cuda or auto", o.Device)
	}
	s, err := open(path, o, CPU)
	if err != nil && why != nil {
		return nil, fmt.Errorf("%w (and not on cuda: %w)", err, why)
	}
	return s, err
}

func open(path string, o Options, device string) (*Session, error) {
	so, err := ort.NewSessionOptions()
	if err != nil {
		return nil, fmt.Errorf("session options: %w", err)
	}
	// The session copies its options.
	defer func() { _ = so.Destroy() }()
	if err := errors.Join(
		so.SetIntraOpNumThreads(max(1, o.Threads)),
		so.SetInterOpNumThreads(1),
		// A waiting thread that spins takes a core from other pods.
		so.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		so.AddSessionConfigEntry("session.inter_op.allow_spinning", "0"),
		so.SetLogSeverityLevel(ort.LoggingLevelError),
	); err != nil {
		return nil, fmt.Errorf("session options: %w", err)
	}
	if device == CUDA {
		if err := withCUDA(so); err != nil {
			return nil, err
		}
	}
	s, err := ort.NewDynamicAdvancedSession(path, o.Inputs, o.Outputs, so)
	if err != nil {
		return nil, fmt.Errorf("load graph %s: %w", path, err)
	}
	return &Session{device: device, inputs: len(o.Inputs), outputs: o.Outputs, s: s}, nil
}

func withCUDA(so *ort.SessionOptions) error {
	co, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer func() { _ = co.Destroy() }() // copied by AppendExecutionProviderCUDA
	if err := co.Update(map[string]string{"device_id": strconv.Itoa(0)}); err != nil {
		return err
	}
	return so.AppendExecutionProviderCUDA(co)
}

// Device is where the session runs: CPU or CUDA.
func (s *Session) Device() string { return s.device }

// Run runs the graph. in has one tensor for each declared input. out has one
// for each declared output: with a shape and elements, which are written, or
// the zero Tensor, which is replaced by one of the runtime's shape.
//
// When ctx ends first, the run is told to stop, which it does between two of
// the graph's nodes, and Run returns ctx's error; what is in out is then
// undefined. in and out must not be used by others until Run has returned.
func (s *Session) Run(ctx context.Context, in, out []Tensor) error {
	if len(in) != s.inputs || len(out) != len(s.outputs) {
		return fmt.Errorf("%d inputs and %d outputs given; the session has %d and %d", len(in), len(out), s.inputs, len(s.outputs))
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
			if v != nil {
				_ = v.Destroy() // cannot fail for a tensor
			}
		}
	}()
	ins, outs := values[:len(in):len(in)], values[len(in):]
	for i, t := range in {
		v, err := t.value(&pin)
		if err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
		ins[i] = v
	}
	for i, t := range out {
		if t.Shape == nil && t.F32 == nil && t.I32 == nil && t.I64 == nil {
			continue
		}
		v, err := t.value(&pin)
		if err != nil {
			return fmt.Errorf("output %s: %w", s.outputs[i], err)
		}
		outs[i] = v
	}

	if err := s.run(ctx, ins, outs); err != nil {
		return err
	}
	for i := range out {
		if out[i].Shape != nil {
			continue
		}
		t, err := take(outs[i])
		if err != nil {
			return fmt.Errorf("output %s: %w", s.outputs[i], err)
		}
		out[i] = t
	}
	return nil
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
