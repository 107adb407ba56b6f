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
	"context"
	"log/slog"
	"time"

	"aisle.dev/aisle/internal/onnx"
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

	// Answered is told of each request: its route (one of some ten: "v2/infer",
	// "grpc/ModelInfer"), the HTTP status code or its equivalent, and how long
	// it took. nil is told nothing.
	Answered func(route string, status int, took time.Duration)

	Logger *slog.Logger // nil discards
}
