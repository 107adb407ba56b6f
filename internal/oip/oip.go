// Package oip serves the Open Inference Protocol v2: REST with JSON and with
// the binary tensor extension, and gRPC, for any number of models.
//
// Guarantees: what reaches a [Model] has every declared input exactly once,
// in the declared order, of the declared datatype, with a shape that fits the
// declared one and as many elements as it says; bodies and messages are
// bounded after decompression, and so is what is held of them at once; a
// request ends with its deadline, its grpc-timeout or its caller. Refusals
// have the protocol's shape: {"error": "..."} with a status code, or a gRPC
// status with a message.
//
// Non-goals: loading and unloading models, shared memory, sequences, streams,
// Triton's statistics and configuration. gRPC answers those methods with
// UNIMPLEMENTED.
package oip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/serve"
)

// Port is a declared input or output. A dimension of -1 varies.
type Port struct {
	Name     string
	Datatype string // the protocol's name: FP32, BYTES ...
	Shape    []int64
}

// Description is what a model says of itself.
type Description struct {
	Name       string
	Versions   []string // the first one answers; a request may name any of them, or none
	Platform   string   // such as onnx_onnxv1
	Inputs     []Port
	Outputs    []Port
	Parameters map[string]string // such as device and digest; nil means none
}

// Request is what a model is asked.
type Request struct {
	Inputs     []onnx.Tensor  // one for each declared input, in that order
	Outputs    []int          // indexes into the declared outputs, in the order wanted
	Parameters map[string]any // of the request: bool, int64, uint64, float64 or string
}

// Model is what is served. Its methods are called from many goroutines at
// once.
type Model interface {
	Describe() Description
	// Ready is nil when Infer is worth calling, and else says why not.
	Ready() error
	// Infer gives one tensor for each of the outputs that are wanted. The
	// request's tensors are the model's to keep. A *problem.Error is given to
	// the caller with its status; any other error is a 500 that is logged.
	Infer(context.Context, Request) ([]onnx.Tensor, error)
}

// Options of [Handler].
type Options struct {
	Version string        // the server's, in its metadata
	MaxBody int64         // bytes of a body or message, decompressed; 0 means 16 MiB
	Bodies  *serve.Budget // what is held of bodies at once, together with the process's other routes; nil means its own of 2 x MaxBody
	Timeout time.Duration // for one request; 0 means 20 s

	// Admit is asked before a body is read: an error (a *problem.Error of 503
	// when it is full) refuses the request, and release is called when it has
	// been answered. nil admits all.
	Admit func() (release func(), err error)

	// Answered is told of each request: its route (one of some fifteen:
	// "v2/models/infer", "grpc/ModelInfer"), the HTTP status code or its equivalent, and how long
	// it took. nil is told nothing.
	Answered func(route string, status int, took time.Duration)

	Logger *slog.Logger // nil discards
}

// Defaults of [Options].
const (
	DefaultMaxBody = 16 << 20
	DefaultTimeout = 20 * time.Second
)

// Serves reports whether the request is one for [Handler]: below /v2, or gRPC.
func Serves(r *http.Request) bool {
	return r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, "/v2/") || isGRPC(r)
}

// Handler serves the models. HTTP/1.1 and cleartext HTTP/2 are the server's
// to speak; gRPC needs the latter.
func Handler(models []Model, o Options) http.Handler {
	h := &handler{models: map[string]Model{}, options: o}
	h.options.MaxBody = cmp.Or(o.MaxBody, DefaultMaxBody)
	h.options.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	if o.Bodies == nil {
		h.options.Bodies = serve.NewBudget(2 * h.options.MaxBody)
	}
	if o.Admit == nil {
		h.options.Admit = func() (func(), error) { return func() {}, nil }
	}
	if o.Answered == nil {
		h.options.Answered = func(string, int, time.Duration) {}
	}
	if o.Logger == nil {
		h.options.Logger = slog.New(slog.DiscardHandler)
	}
	for _, m := range models {
		h.models[m.Describe().Name] = m
	}
	return h
}

type handler struct {
	models  map[string]Model
	options Options
}

// statusGone is nginx's code for a caller that went away; only Answered is
// told of it.
const statusGone = 499

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	speak := h.rest
	if isGRPC(r) {
		speak = h.grpc
	}
	route, err := speak(w, r)
	status := http.StatusOK
	switch {
	case err == nil:
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		status = statusGone
	default:
		status = problem.Status(err)
	}
	if status >= 500 && status != http.StatusServiceUnavailable && status != http.StatusNotImplemented {
		h.options.Logger.Error("request failed", "route", route, "path", r.URL.Path, "error", err)
	}
	h.options.Answered(route, status, time.Since(began))
}

// find returns the model of the name. Version may be empty.
func (h *handler) find(name, version string) (Model, Description, error) {
	m, ok := h.models[name]
	if !ok {
		return nil, Description{}, problem.New(http.StatusNotFound, "there is no model %.80q here", name)
	}
	d := m.Describe()
	if version != "" && !slices.Contains(d.Versions, version) {
		return nil, d, problem.New(http.StatusNotFound, "model %q has no version %.80q; it has %q", name, version, d.Versions)
	}
	return m, d, nil
}

// ready is nil when all models are.
func (h *handler) ready() error {
	for _, m := range h.models {
		if err := m.Ready(); err != nil {
			return err
		}
	}
	return nil
}

// call is one inference as it came, in either encoding.
type call struct {
	id         string
	parameters map[string]any
	inputs     []input
	outputs    []string // names; none means all
}

// infer runs the call. It gives the indexes of the outputs with their tensors.
func (h *handler) infer(ctx context.Context, m Model, d Description, c call) ([]int, []onnx.Tensor, error) {
	if us, ok := c.parameters["timeout"].(int64); ok && us > 0 { // Triton's, in microseconds
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, min(h.options.Timeout, time.Duration(min(us, int64(time.Hour/time.Microsecond)))*time.Microsecond))
		defer cancel()
	}
	in, err := arrange(c.inputs, d.Inputs)
	if err != nil {
		return nil, nil, err
	}
	var wanted []int
	for _, name := range c.outputs {
		i := slices.IndexFunc(d.Outputs, func(p Port) bool { return p.Name == name })
		if i < 0 {
			return nil, nil, refuse("output %.80q is none of this model's: it gives %s", name, list(d.Outputs))
		}
		if slices.Contains(wanted, i) {
			return nil, nil, refuse("output %q is asked for twice", name)
		}
		wanted = append(wanted, i)
	}
	if len(c.outputs) == 0 {
		for i := range d.Outputs {
			wanted = append(wanted, i)
		}
	}
	out, err := m.Infer(ctx, Request{Inputs: in, Outputs: wanted, Parameters: c.parameters})
	if err != nil {
		return nil, nil, err
	}
	if len(out) != len(wanted) {
		return nil, nil, fmt.Errorf("model %s gave %d outputs of %d", d.Name, len(out), len(wanted))
	}
	return wanted, out, nil
}

// read reads a request's body of up to limit bytes. It is accounted for until
// done is called.
func (h *handler) read(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, done func(), err error) {
	share, err := h.options.Bodies.Take(r.Context(), r, limit)
	if err != nil {
		return nil, nil, err
	}
	body, err = serve.ReadBody(w, r, limit)
	if err != nil {
		share.Release()
		return nil, nil, err
	}
	share.Keep(len(body))
	return body, share.Release, nil
}

// unsupported refuses parameters that change what is asked for, of a tensor
// or of a request. Others are the model's to know, and else mean nothing.
func unsupported(name string) bool {
	return strings.HasPrefix(name, "shared_memory_") || name == "classification"
}
