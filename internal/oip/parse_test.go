package oip

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/problem"
)

// whole checks what any tensor that was accepted promises.
func whole(t *testing.T, in input) {
	t.Helper()
	n, err := count(in.tensor.Shape)
	if err != nil {
		t.Fatalf("%q was accepted: %v", in.name, err)
	}
	have := len(in.tensor.F32) + len(in.tensor.I32) + len(in.tensor.I64) + len(in.tensor.Strings)
	if in.tensor.Raw != nil {
		have = len(in.tensor.Raw) / onnx.Size(in.tensor.Datatype)
	}
	if have != n {
		t.Fatalf("%q of shape %v has %d elements", in.name, in.tensor.Shape, have)
	}
	// What came in goes out again, in both forms, and is read as the same.
	raw := appendBinary(nil, in.tensor)
	if len(raw) != binarySize(in.tensor) {
		t.Fatalf("%d bytes, not %d", len(raw), binarySize(in.tensor))
	}
	again, err := fromBinary(in.tensor.Datatype, in.tensor.Shape, raw)
	if err != nil || string(appendBinary(nil, again)) != string(raw) {
		t.Fatalf("%+v becomes %+v: %v", in.tensor, again, err)
	}
	text, err := appendJSON(nil, in.tensor)
	if err != nil {
		return // not finite, not UTF-8, or half precision
	}
	again, err = fromJSON(in.tensor.Datatype, in.tensor.Shape, text)
	if err != nil || string(appendBinary(nil, again)) != string(raw) {
		t.Fatalf("%+v becomes %s, and that %+v: %v", in.tensor, text, again, err)
	}
}

// callers checks that an error is the caller's.
func callers(t *testing.T, err error) {
	t.Helper()
	if s := problem.Status(err); s != http.StatusBadRequest {
		t.Fatalf("a bad request is answered with %d: %v", s, err)
	}
}

func FuzzREST(f *testing.F) {
	doc := `{"id":"a","parameters":{"binary_data_output":true},"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}`
	f.Add([]byte(doc+"12345678"), strconv.Itoa(len(doc)))
	strs := `{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":6}}],"outputs":[{"name":"y","parameters":{"binary_data":false}}]}`
	f.Add([]byte(strs+"\x02\x00\x00\x00ab"), strconv.Itoa(len(strs)))
	for _, s := range []string{
		`{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP64","data":[[1,2],[3e-5,-0]]}]}`,
		`{"inputs":[{"name":"x","shape":[2,0],"datatype":"INT8","data":[[],[]]},{"name":"y","shape":[3],"datatype":"BOOL","data":[true, false ,true]}]}`,
		`{"inputs":[{"name":"x","shape":[2],"datatype":"BYTES","data":["é\"\u0041","]"]},{"name":"y","shape":[],"datatype":"UINT64","data":[18446744073709551615]}]}`,
	} {
		f.Add([]byte(s), "")
	}
	f.Fuzz(func(t *testing.T, body []byte, jsonLength string) {
		c, _, err := readREST(body, jsonLength)
		if err != nil {
			callers(t, err)
			return
		}
		for _, in := range c.inputs {
			whole(t, in)
		}
	})
}

func FuzzBinary(f *testing.F) {
	f.Add("FP32", []byte("12345678"), int64(1), int64(2))
	f.Add("BYTES", []byte("\x01\x00\x00\x00a\x00\x00\x00\x00"), int64(2), int64(1))
	f.Add("BOOL", []byte{0, 1}, int64(2), int64(1))
	f.Add("BF16", []byte{}, int64(0), int64(1)<<40)
	f.Fuzz(func(t *testing.T, datatype string, data []byte, rows, columns int64) {
		tensor, err := fromBinary(datatype, []int64{rows, columns}, data)
		if err == nil {
			whole(t, input{tensor: tensor})
		}
	})
}

func FuzzGRPC(f *testing.F) {
	port := portMessage(Port{Name: "x", Datatype: "FP32", Shape: []int64{1, 2}})
	request := appendText(appendText(appendText(nil, 1, "sums"), 2, "1"), 3, "id")
	f.Add(appendContent(appendContent(request, 5, port), 7, []byte("12345678")))
	f.Add(appendContent(request, 5, appendContent(port, 5, appendContent(nil, 6, []byte("12345678")))))
	f.Add(appendContent(request, 5, appendContent(portMessage(Port{Name: "x", Datatype: "INT8", Shape: []int64{1}}), 5, appendContent(nil, 2, []byte("\x7f")))))
	f.Add(appendContent(request, 4, appendContent(appendText(nil, 1, "top"), 2, appendUint(nil, 2, 5))))
	f.Fuzz(func(t *testing.T, message []byte) {
		q, err := readInferRequest(message)
		if err != nil {
			callers(t, err)
			return
		}
		inputs, err := q.tensors()
		if err != nil {
			callers(t, err)
			return
		}
		for _, in := range inputs {
			whole(t, in)
		}
	})
}

func FuzzParseFloat32(f *testing.F) {
	for _, s := range []string{
		"0", "-0", "0.1", "-12.5", "16777217", "16777217.0000001", "33554435", "9007199254740993", "0.0000000000000000000001", "1e5", "3.5e38", "0.50000002980232239",
		"1.00000005960464477539", "1.000000059604645", "1.00000017881393432617", "\"1\"", "null", "-", "1.",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		// What is no JSON number never comes here but for other tokens.
		if v := jsontext.Value(s); len(s) == 0 || !v.IsValid() || v.Kind() == '[' || v.Kind() == '{' || tokenLength(s) != len(s) {
			return
		}
		want, werr := strconv.ParseFloat(string(s), 32)
		got, err := parseFloat32(s)
		if (err == nil) != (werr == nil) || err == nil && math.Float32bits(got) != math.Float32bits(float32(want)) {
			t.Fatalf("%s is %v (%v), want %v (%v)", s, got, err, float32(want), werr)
		}
	})
}

// Numbers halfway between two float32s, and next to halfway, are rounded as
// strconv does.
func TestHalfway(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200_000 {
		a := math.Float32frombits(r.Uint32N(40<<23) + 107<<23) // 2^-20 to 2^20
		middle := (float64(a) + float64(math.Nextafter32(a, math.MaxFloat32))) / 2
		s := strconv.AppendFloat(nil, middle, 'f', r.IntN(20)-1, 64)
		want, _ := strconv.ParseFloat(string(s), 32)
		if got, err := parseFloat32(s); err != nil || got != float32(want) {
			t.Fatalf("%s is %v (%v), want %v", s, got, err, float32(want))
		}
	}
}

// picture is the data of a 3x96x96 tensor of FP32 as a client writes it.
func picture() ([]float32, jsontext.Value) {
	r := rand.New(rand.NewPCG(1, 2))
	numbers, text := make([]float32, 3*96*96), []byte{'['}
	for i := range numbers {
		numbers[i] = float32(r.NormFloat64())
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendFloat(text, float64(numbers[i]), 'g', -1, 32)
	}
	return numbers, append(text, ']')
}

var pictureShape = []int64{1, 3, 96, 96}

func TestPicture(t *testing.T) {
	numbers, text := picture()
	got, err := fromJSON(onnx.FP32, pictureShape, text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(onnx.Tensor{Datatype: onnx.FP32, Shape: pictureShape, F32: numbers}, got); diff != "" {
		t.Error(diff)
	}
}

// BenchmarkPicture reads and writes requests and answers of a picture's size.
func BenchmarkPicture(b *testing.B) {
	numbers, text := picture()
	raw := make([]byte, 0, 4*len(numbers))
	for _, v := range numbers {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	asJSON := fmt.Appendf(nil, `{"inputs":[{"name":"x","shape":[1,3,96,96],"datatype":"FP32","data":%s}]}`, text)
	head := fmt.Sprintf(`{"inputs":[{"name":"x","shape":[1,3,96,96],"datatype":"FP32","parameters":{"binary_data_size":%d}}]}`, len(raw))
	asBinary := append([]byte(head), raw...)
	message := appendContent(appendContent(nil, 5, portMessage(Port{Name: "x", Datatype: "FP32", Shape: pictureShape})), 7, raw)
	b.Run("read JSON", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := readREST(asJSON, ""); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read binary", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := readREST(asBinary, strconv.Itoa(len(head))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read gRPC", func(b *testing.B) {
		for b.Loop() {
			q, err := readInferRequest(message)
			if err == nil {
				_, err = q.tensors()
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("write JSON", func(b *testing.B) {
		for b.Loop() {
			if _, err := appendJSON(nil, onnx.Tensor{Shape: pictureShape, F32: numbers}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
