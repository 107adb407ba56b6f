package onnx

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	ort "github.com/yalue/onnxruntime_go"
)

// Devices that a session can be asked to run on.
const (
	CPU  = "cpu"
	CUDA = "cuda"
	Auto = "auto" // cuda where there is one, else cpu
)

// Options of [Open].
type Options struct {
	Inputs  []string // the graph's input names, in the order in which Run takes them
	Outputs []string // the names of the outputs wanted, in the order of Run's
	Device  string   // CPU, CUDA or Auto; empty means CPU
	GPU     GPU      // for CUDA
	// Threads run one node of the graph together. 0 means 1: a server has
	// other requests for its other cores, and threads that wait for each
	// other cost more than they give on small graphs.
	Threads int

	// CacheDir is where a graph as the runtime has optimised it for this type
	// of processor is kept, and looked for under the graph's Digest ("sha256:"
	// and the file's, or that alone). None of it where either is empty.
	CacheDir string
	Digest   string
}

// GPU says what a session on CUDA may use.
type GPU struct {
	ID     int   // as CUDA counts the devices that it sees
	Memory int64 // bytes of its arena at most; 0: all there is
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
	g, err := inspect(path, o)
	if err != nil {
		return nil, err
	}
	var why error
	switch o.Device {
	case CUDA, Auto:
		s, err := g.open(o, CUDA)
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
	s, err := g.open(o, CPU)
	if err != nil && why != nil {
		return nil, fmt.Errorf("%w (and not on cuda: %w)", err, why)
	}
	if err == nil && why != nil {
		s.fallback = why
	}
	return s, err
}

// graph is what [Open] knows of a graph before it has a session.
type graph struct {
	path            string
	info            Info
	inputs, outputs []Port
	tail            []byte   // to be added to it
	names           []string // of the outputs, then
}

func inspect(path string, o Options) (*graph, error) {
	info, err := Inspect(path)
	if err != nil {
		return nil, err
	}
	g := &graph{path: path, info: info}
	if g.inputs, err = ports(info.Inputs, o.Inputs, "input"); err != nil {
		return nil, fmt.Errorf("graph %s: %w", path, err)
	}
	if g.outputs, err = ports(info.Outputs, o.Outputs, "output"); err != nil {
		return nil, fmt.Errorf("graph %s: %w", path, err)
	}
	g.tail, g.names = adapt(info, g.outputs)
	return g, nil
}

func (g *graph) open(o Options, device string) (*Session, error) {
	so, err := options(o)
	if err != nil {
		return nil, err
	}
	// The session copies its options.
	defer func() { _ = so.Destroy() }()
	var s *ort.DynamicAdvancedSession
	switch c := newCache(o, g.info, g.tail); {
	case device == CUDA:
		if err := withCUDA(so, o.GPU); err != nil {
			return nil, err
		}
		s, err = newSession(g.path, g.tail, o.Inputs, g.names, so)
	case c != nil:
		s, err = c.session(g.path, o, so)
	default:
		s, err = newSession(g.path, g.tail, o.Inputs, g.names, so)
	}
	if err != nil {
		// The runtime words it by its own source; the likely reason first.
		if newer := g.info.Supported(); newer != nil {
			return nil, fmt.Errorf("load graph %s: %w", g.path, newer)
		}
		return nil, fmt.Errorf("load graph %s: %w", g.path, err)
	}
	return &Session{device: device, inputs: g.inputs, outputs: g.outputs, s: s}, nil
}

func options(o Options) (*ort.SessionOptions, error) {
	so, err := ort.NewSessionOptions()
	if err != nil {
		return nil, fmt.Errorf("session options: %w", err)
	}
	if err := errors.Join(
		so.SetIntraOpNumThreads(max(1, o.Threads)),
		so.SetInterOpNumThreads(1),
		// A waiting thread that spins takes a core from other pods.
		so.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		so.AddSessionConfigEntry("session.inter_op.allow_spinning", "0"),
		so.SetLogSeverityLevel(ort.LoggingLevelError),
	); err != nil {
		_ = so.Destroy()
		return nil, fmt.Errorf("session options: %w", err)
	}
	return so, nil
}

// withCUDA asks for the GPU as a cold start wants it: convolutions are chosen
// by cuDNN's rule of thumb and not by trying all of them, and memory is taken
// as it is needed and not in powers of two, so that pods can share a GPU.
func withCUDA(so *ort.SessionOptions, gpu GPU) error {
	co, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer func() { _ = co.Destroy() }() // copied by AppendExecutionProviderCUDA
	set := map[string]string{
		"device_id":              strconv.Itoa(gpu.ID),
		"cudnn_conv_algo_search": "HEURISTIC",
		"arena_extend_strategy":  "kSameAsRequested",
	}
	if gpu.Memory > 0 {
		set["gpu_mem_limit"] = strconv.FormatInt(gpu.Memory, 10)
	}
	if err := co.Update(set); err != nil {
		return reason(err)
	}
	return reason(so.AppendExecutionProviderCUDA(co))
}

// reason is what the runtime says of a device, without its own source's lines
// and on one line.
func reason(err error) error {
	if err == nil {
		return nil
	}
	text := strings.Join(strings.Fields(err.Error()), " ")
	if _, after, ok := strings.Cut(text, " : FAIL : "); ok {
		text = after
	}
	if strings.Contains(text, "libonnxruntime_providers_shared.so") {
		return errors.New("this build of ONNX Runtime is for CPUs alone: name one for GPUs in ONNXRUNTIME_LIB (" + text + ")")
	}
	return errors.New(text)
}
