package onnx

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	ort "github.com/yalue/onnxruntime_go"
	"google.golang.org/protobuf/encoding/protowire"
)

// maxAdapted bounds a graph that is read into memory: protobuf's own bound.
const maxAdapted = 2<<30 - 1

// adapt gives what must be added to a graph for its outputs to come through
// onnxruntime_go: nothing for most. It reads no 16-bit floats, which are
// widened by a Cast; and of a zipmap the tensor is taken that it is made of,
// which costs a row's share of a copy instead of a map with a key for each
// label. names are then the outputs to ask for in place of the ports' own.
//
// What is added is a model of its own with a part of a graph: protobuf merges
// the two when one's bytes follow the other's.
func adapt(info Info, ports []Port) (tail []byte, names []string) {
	var graph []byte
	declared := func(name string) bool {
		return slices.ContainsFunc(info.Outputs, func(p Port) bool { return p.Name == name })
	}
	for _, p := range ports {
		name := p.Name
		switch {
		case p.Kind == KindZipMap:
			name = p.from
		case p.Datatype == FP16 || p.Datatype == BF16:
			name = "aisle/fp32/" + p.Name
			cast := appendText(appendText(nil, 1, p.Name), 2, name)
			cast = appendText(appendText(cast, 3, name), 4, "Cast")
			to := appendNumber(appendText(nil, 1, "to"), 3, elements[FP32].onnx)
			cast = appendMessage(cast, 5, appendNumber(to, 20, 2)) // 2: an integer attribute
			graph = appendMessage(graph, 1, cast)
		}
		if name != p.Name && !declared(name) {
			tensor := appendMessage(nil, 1, appendNumber(nil, 1, elements[FP32].onnx))
			graph = appendMessage(graph, 12, appendMessage(appendText(nil, 1, name), 2, tensor))
		}
		names = append(names, name)
	}
	if graph == nil {
		return nil, names
	}
	tail = appendMessage(nil, 7, graph)
	_, plain := info.Opsets[""]
	if _, long := info.Opsets["ai.onnx"]; !plain && !long {
		tail = appendMessage(tail, 8, appendNumber(nil, 2, 13)) // the first with a Cast from BF16
	}
	return tail, names
}

// newSession opens the graph at path with tail added to it.
func newSession(path string, tail []byte, inputs, outputs []string, so *ort.SessionOptions) (*ort.DynamicAdvancedSession, error) {
	if tail == nil {
		return ort.NewDynamicAdvancedSession(path, inputs, outputs, so)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	graph, err := io.ReadAll(io.LimitReader(f, maxAdapted))
	if err != nil {
		return nil, err
	}
	if len(graph)+len(tail) > maxAdapted {
		return nil, errors.New("the file is larger than 2 GiB: keep the weights in external data")
	}
	// The runtime is given no file, beside which it would look for external data.
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	if err := so.AddSessionConfigEntry("session.model_external_initializers_file_folder_path", dir); err != nil {
		return nil, err
	}
	return ort.NewDynamicAdvancedSessionWithONNXData(append(graph, tail...), inputs, outputs, so)
}

// ports are those of all with these names, in the names' order.
func ports(all []Port, names []string, what string) ([]Port, error) {
	out := make([]Port, len(names))
	for i, name := range names {
		j := slices.IndexFunc(all, func(p Port) bool { return p.Name == name })
		if j < 0 {
			var have []string
			for _, p := range all {
				have = append(have, p.Name)
			}
			return nil, fmt.Errorf("it has no %s %q; its own are %q", what, name, have)
		}
		switch p := all[j]; {
		case p.Kind != KindTensor && p.Kind != KindZipMap:
			return nil, fmt.Errorf("%s %s is a %s: want a tensor (or the ZipMap of skl2onnx)", what, name, p.Kind)
		case p.Kind == KindTensor && p.Datatype == "":
			return nil, fmt.Errorf("%s %s is of a datatype that the Open Inference Protocol does not have", what, name)
		}
		out[i] = all[j]
	}
	return out, nil
}

func appendNumber(b []byte, field protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
}

func appendText(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendMessage(b []byte, field protowire.Number, m []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), m)
}
