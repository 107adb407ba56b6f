package oip

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"aisle.dev/aisle/internal/onnx"
)

// The messages of the protocol's gRPC service, field by field
// (https://github.com/kserve/open-inference-protocol). Reading shares the
// message's memory until tensors are made of it.

// serverName and extensions are what the server's metadata say.
const serverName = "aisle"

var extensions = []string{"binary_tensor_data"}

// field is one field of a message: number is of a varint or a fixed-width
// field, content of a length-delimited one.
type field struct {
	id      protowire.Number
	kind    protowire.Type
	number  uint64
	content []byte
}

// each visits the fields of a message in their order.
func each(b []byte, visit func(field) error) error {
	for len(b) > 0 {
		id, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return broken(n)
		}
		b = b[n:]
		f := field{id: id, kind: kind}
		switch kind {
		case protowire.VarintType:
			f.number, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			f.number = uint64(v)
		case protowire.Fixed64Type:
			f.number, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			f.content, n = protowire.ConsumeBytes(b)
		default: // a group: none of these messages has one
			n = protowire.ConsumeFieldValue(id, kind, b)
		}
		if n < 0 {
			return broken(n)
		}
		b = b[n:]
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}

func broken(n int) error {
	return refuse("the message is no protocol buffer: %s", protowire.ParseError(n))
}

// want refuses a known field of another type.
func (f field) want(kind protowire.Type) error {
	if f.kind != kind {
		return refuse("the message's field %d has the wire type %d; want %d", f.id, f.kind, kind)
	}
	return nil
}

// text reads a string field into s.
func (f field) text(s *string) error {
	*s = string(f.content)
	return f.want(protowire.BytesType)
}

// numbers visits the numbers of a repeated field, packed or not.
func (f field) numbers(kind protowire.Type, visit func(uint64)) error {
	if f.kind == kind {
		visit(f.number)
		return nil
	}
	if err := f.want(protowire.BytesType); err != nil {
		return err
	}
	for b := f.content; len(b) > 0; {
		var v uint64
		var n int
		switch kind {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var w uint32
			w, n = protowire.ConsumeFixed32(b)
			v = uint64(w)
		default:
			v, n = protowire.ConsumeFixed64(b)
		}
		if n < 0 {
			return broken(n)
		}
		visit(v)
		b = b[n:]
	}
	return nil
}

// readModelName reads ModelReadyRequest and ModelMetadataRequest.
func readModelName(message []byte) (name, version string, err error) {
	err = each(message, func(f field) error {
		switch f.id {
		case 1:
			return f.text(&name)
		case 2:
			return f.text(&version)
		}
		return nil
	})
	return name, version, err
}

// inferRequest is a ModelInferRequest.
type inferRequest struct {
	model, version, id string
	parameters         map[string]any
	inputs             []inputMessage
	outputs            []string
	raw                [][]byte
}

// inputMessage is an InferInputTensor.
type inputMessage struct {
	name, datatype string
	shape          []int64
	contents       []field // of InferTensorContents; nil: none
}

func readInferRequest(message []byte) (inferRequest, error) {
	q := inferRequest{parameters: map[string]any{}}
	err := each(message, func(f field) error {
		if f.id <= 7 {
			if err := f.want(protowire.BytesType); err != nil {
				return err
			}
		}
		switch f.id {
		case 1:
			return f.text(&q.model)
		case 2:
			return f.text(&q.version)
		case 3:
			return f.text(&q.id)
		case 4:
			return readParameter(f.content, q.parameters)
		case 5:
			in, err := readInput(f.content)
			q.inputs = append(q.inputs, in)
			return err
		case 6:
			name, err := readOutput(f.content)
			q.outputs = append(q.outputs, name)
			return err
		case 7:
			q.raw = append(q.raw, f.content)
		}
		return nil
	})
	return q, err
}

func readInput(message []byte) (inputMessage, error) {
	var in inputMessage
	parameters := map[string]any{}
	err := each(message, func(f field) error {
		switch f.id {
		case 1:
			return f.text(&in.name)
		case 2:
			return f.text(&in.datatype)
		case 3:
			err := f.numbers(protowire.VarintType, func(v uint64) {
				if len(in.shape) <= maxRank { // one more than count takes
					in.shape = append(in.shape, int64(v))
				}
			})
			return err
		case 4:
			if err := f.want(protowire.BytesType); err != nil {
				return err
			}
			return readParameter(f.content, parameters)
		case 5:
			if err := f.want(protowire.BytesType); err != nil {
				return err
			}
			return each(f.content, func(f field) error {
				in.contents = append(in.contents, f)
				return nil
			})
		}
		return nil
	})
	if err == nil {
		err = checkParameters(parameters)
	}
	return in, err
}

// readOutput reads an InferRequestedOutputTensor.
func readOutput(message []byte) (name string, err error) {
	parameters := map[string]any{}
	err = each(message, func(f field) error {
		switch f.id {
		case 1:
			return f.text(&name)
		case 2:
			if err := f.want(protowire.BytesType); err != nil {
				return err
			}
			return readParameter(f.content, parameters)
		}
		return nil
	})
	if err == nil {
		err = checkParameters(parameters)
	}
	return name, err
}

// readParameter reads an entry of a map from names to InferParameter.
func readParameter(message []byte, into map[string]any) error {
	var name string
	var value any
	err := each(message, func(f field) error {
		switch f.id {
		case 1:
			return f.text(&name)
		case 2:
			if err := f.want(protowire.BytesType); err != nil {
				return err
			}
			return each(f.content, func(f field) error {
				switch {
				case f.id == 1 && f.kind == protowire.VarintType:
					value = f.number != 0
				case f.id == 2 && f.kind == protowire.VarintType:
					value = int64(f.number)
				case f.id == 3 && f.kind == protowire.BytesType:
					value = string(f.content)
				case f.id == 4 && f.kind == protowire.Fixed64Type:
					value = math.Float64frombits(f.number)
				case f.id == 5 && f.kind == protowire.VarintType:
					value = f.number
				}
				return nil
			})
		}
		return nil
	})
	if value != nil {
		into[name] = value
	}
	return err
}

// tensors are the inputs with their data, which is raw for all of them or
// typed for all.
func (q *inferRequest) tensors() ([]input, error) {
	if q.raw != nil && len(q.raw) != len(q.inputs) {
		return nil, refuse("there are %d raw_input_contents for %d inputs; want one for each", len(q.raw), len(q.inputs))
	}
	out := make([]input, len(q.inputs))
	for i, in := range q.inputs {
		var t onnx.Tensor
		var err error
		switch {
		case q.raw == nil:
			t, err = in.typed()
		case in.contents != nil:
			err = fmt.Errorf("it has contents, and the request raw_input_contents; want one of them")
		default:
			t, err = fromBinary(in.datatype, in.shape, q.raw[i])
		}
		if err != nil {
			return nil, refuse("input %.80q: %s", in.name, err)
		}
		out[i] = input{name: in.name, tensor: t}
	}
	return out, nil
}

// contents says in which field of InferTensorContents a datatype's elements
// are, and how they are encoded.
var contents = map[string]struct {
	id   protowire.Number
	kind protowire.Type
}{
	onnx.BOOL: {1, protowire.VarintType},
	onnx.INT8: {2, protowire.VarintType}, onnx.INT16: {2, protowire.VarintType}, onnx.INT32: {2, protowire.VarintType},
	onnx.INT64: {3, protowire.VarintType},
	onnx.UINT8: {4, protowire.VarintType}, onnx.UINT16: {4, protowire.VarintType}, onnx.UINT32: {4, protowire.VarintType},
	onnx.UINT64: {5, protowire.VarintType},
	onnx.FP32:   {6, protowire.Fixed32Type},
	onnx.FP64:   {7, protowire.Fixed64Type},
	onnx.BYTES:  {8, protowire.BytesType},
}

// typed makes a tensor of typed contents, by way of its binary form: callers
// who care for speed send that.
func (in inputMessage) typed() (onnx.Tensor, error) {
	c, ok := contents[in.datatype]
	switch {
	case ok:
	case known(in.datatype):
		return onnx.Tensor{}, fmt.Errorf("its datatype %s has no typed contents: send it in raw_input_contents", in.datatype)
	default:
		return onnx.Tensor{}, fmt.Errorf("its datatype %.20q is not one of the protocol's", in.datatype)
	}
	n, err := count(in.shape)
	if err != nil {
		return onnx.Tensor{}, err
	}
	var data []byte
	at, size, outside := 0, onnx.Size(in.datatype), -1
	add := func(v uint64) {
		switch {
		case in.datatype == onnx.BOOL:
			v = min(v, 1)
		case in.datatype[0] == 'I' && size < 8 && int64(v)<<(64-8*size)>>(64-8*size) != int64(v),
			in.datatype[0] == 'U' && size < 8 && v>>(8*size) != 0:
			outside = at
		}
		data = appendInteger(data, v, size)
		at++
	}
	for _, f := range in.contents {
		if f.id != c.id {
			return onnx.Tensor{}, fmt.Errorf("its contents are in field %d of InferTensorContents; %s belongs into %d", f.id, in.datatype, c.id)
		}
		if c.kind != protowire.BytesType {
			if err := f.numbers(c.kind, add); err != nil {
				return onnx.Tensor{}, err
			}
			continue
		}
		if err := f.want(c.kind); err != nil {
			return onnx.Tensor{}, err
		}
		data = binary.LittleEndian.AppendUint32(data, uint32(len(f.content)))
		data = append(data, f.content...)
		at++
	}
	if outside >= 0 {
		return onnx.Tensor{}, fmt.Errorf("its element %d is outside %s", outside, in.datatype)
	}
	if at != n {
		return onnx.Tensor{}, fmt.Errorf("its shape %v wants %d elements; its contents have %d", in.shape, n, at)
	}
	return fromBinary(in.datatype, in.shape, data)
}

// inferResponse is a ModelInferResponse. Its tensors are raw, as Triton's.
func inferResponse(d Description, id string, wanted []int, tensors []onnx.Tensor) []byte {
	size := 0
	for _, t := range tensors {
		size += binarySize(t) + 256
	}
	b := make([]byte, 0, size)
	b = appendText(b, 1, d.Name)
	b = appendText(b, 2, version(d))
	b = appendText(b, 3, id)
	for i, t := range tensors {
		b = appendContent(b, 5, portMessage(Port{Name: d.Outputs[wanted[i]].Name, Datatype: t.Type(), Shape: t.Shape}))
	}
	for _, t := range tensors {
		b = protowire.AppendTag(b, 6, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(binarySize(t)))
		b = appendBinary(b, t)
	}
	return b
}

// portMessage is a TensorMetadata, and the beginning of an InferOutputTensor.
func portMessage(p Port) []byte {
	b := appendText(appendText(nil, 1, p.Name), 2, p.Datatype)
	var shape []byte
	for _, n := range p.Shape {
		shape = protowire.AppendVarint(shape, uint64(n))
	}
	if len(shape) > 0 {
		b = appendContent(b, 3, shape)
	}
	return b
}

// modelMetadataMessage is a ModelMetadataResponse, with KServe's properties.
func modelMetadataMessage(d Description) []byte {
	b := appendText(nil, 1, d.Name)
	for _, v := range d.Versions {
		b = appendText(b, 2, v)
	}
	b = appendText(b, 3, d.Platform)
	for _, p := range d.Inputs {
		b = appendContent(b, 4, portMessage(p))
	}
	for _, p := range d.Outputs {
		b = appendContent(b, 5, portMessage(p))
	}
	for _, k := range slices.Sorted(maps.Keys(d.Parameters)) {
		b = appendContent(b, 6, appendText(appendText(nil, 1, k), 2, d.Parameters[k]))
	}
	return b
}

func serverMetadataMessage(version string) []byte {
	b := appendText(appendText(nil, 1, serverName), 2, version)
	for _, e := range extensions {
		b = appendText(b, 3, e)
	}
	return b
}

// boolMessage is a message whose one field is a bool.
func boolMessage(v bool) []byte { return appendUint(nil, 1, protowire.EncodeBool(v)) }

func appendUint(b []byte, id protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, id, protowire.VarintType), v)
}

// appendText leaves an empty string out, as proto3 does.
func appendText(b []byte, id protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, id, protowire.BytesType), s)
}

func appendContent(b []byte, id protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, id, protowire.BytesType), content)
}
