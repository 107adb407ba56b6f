package oip_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"aisle.dev/aisle/internal/oip"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/onnx/onnxtest"
	"aisle.dev/aisle/internal/ortlib"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// datatypes are the protocol's, with their numbers in ONNX's TensorProto.
var datatypes = map[string]int{
	"FP32": 1, "UINT8": 2, "INT8": 3, "UINT16": 4, "INT16": 5, "INT32": 6, "INT64": 7, "BYTES": 8, "BOOL": 9,
	"FP16": 10, "FP64": 11, "UINT32": 12, "UINT64": 13, "BF16": 16,
}

// model serves a graph with ONNX Runtime.
type model struct {
	oip.Description
	session *onnx.Session
	err     error                     // of Ready
	infer   func(oip.Request) error   // called first, when set
	change  func([]onnx.Tensor)       // called last, when set
	wait    func(ctx context.Context) // called first, when set
}

func (m *model) Describe() oip.Description { return m.Description }
func (m *model) Ready() error              { return m.err }

func (m *model) Infer(ctx context.Context, r oip.Request) ([]onnx.Tensor, error) {
	if m.wait != nil {
		m.wait(ctx)
	}
	if m.infer != nil {
		if err := m.infer(r); err != nil {
			return nil, err
		}
	}
	all := make([]onnx.Tensor, len(m.Outputs))
	if err := m.session.Run(ctx, r.Inputs, all); err != nil {
		return nil, err
	}
	out := make([]onnx.Tensor, len(r.Outputs))
	for i, k := range r.Outputs {
		out[i] = all[k]
	}
	if m.change != nil {
		m.change(out)
	}
	return out, nil
}

// load opens a graph with the ports that d describes.
func load(t testing.TB, graph []byte, d oip.Description) *model {
	t.Helper()
	lib, err := ortlib.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := onnx.Init(lib); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, graph, 0o644); err != nil {
		t.Fatal(err)
	}
	names := func(ports []oip.Port) (out []string) {
		for _, p := range ports {
			out = append(out, p.Name)
		}
		return out
	}
	s, err := onnx.Open(path, onnx.Options{Inputs: names(d.Inputs), Outputs: names(d.Outputs)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	d.Platform = "onnx_onnxv1"
	return &model{Description: d, session: s}
}

// sums takes x and y, FP32 [n, 2], and gives their sum and difference.
func sums(t testing.TB) *model {
	var g onnxtest.Graph
	shape := []int64{-1, 2}
	d := oip.Description{Name: "sums", Versions: []string{"2", "1"}, Parameters: map[string]string{"device": "cpu", "digest": "sha256:1"}}
	for _, name := range []string{"x", "y"} {
		g.Input(name, onnxtest.Float, shape...)
		d.Inputs = append(d.Inputs, oip.Port{Name: name, Datatype: "FP32", Shape: shape})
	}
	for _, name := range []string{"sum", "difference"} {
		g.Output(name, onnxtest.Float, shape...)
		d.Outputs = append(d.Outputs, oip.Port{Name: name, Datatype: "FP32", Shape: shape})
	}
	g.Node("Add", []string{"x", "y"}, []string{"sum"}, nil)
	g.Node("Sub", []string{"x", "y"}, []string{"difference"}, nil)
	return load(t, g.Model(), d)
}

// echo takes x of the datatype and any number of rows and columns, and gives
// it back as y. Its name is the datatype.
func echo(t testing.TB, datatype string) *model {
	var g onnxtest.Graph
	shape := []int64{-1, -1}
	g.Input("x", datatypes[datatype], shape...)
	g.Output("y", datatypes[datatype], shape...)
	g.Node("Identity", []string{"x"}, []string{"y"}, nil)
	return load(t, g.Model(), oip.Description{
		Name: datatype, Inputs: []oip.Port{{Name: "x", Datatype: datatype, Shape: shape}}, Outputs: []oip.Port{{Name: "y", Datatype: datatype, Shape: shape}},
	})
}

// start serves the models until the test ends, and returns the address.
func start(t testing.TB, o oip.Options, models ...oip.Model) string {
	t.Helper()
	s := httptest.NewUnstartedServer(oip.Handler(models, o))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
