package recipes

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"aisle.dev/aisle/internal/onnx/onnxtest"
	"aisle.dev/aisle/internal/ortlib"
	"aisle.dev/aisle/python/pythontest"
)

const root = "../.."

var env = pythontest.Env{Root: root, Requirements: "test/recipes"}

// wanted skips what is left to make test-recipes.
func wanted(t *testing.T) {
	t.Helper()
	if os.Getenv("AISLE_RECIPES") == "" {
		t.Skip("NOT TESTED: make test-recipes tests this, and fetches what it needs")
	}
}

// classifier builds the program that is held to the clients.
func classifier(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "classifier")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, root+"/functions/classifier").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// serve runs a classifier of the model until the test ends, and returns its
// address and the model's name.
func serve(t *testing.T, binary, model string) (address, name string) {
	t.Helper()
	lib, err := ortlib.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, binary)
	cmd.Env = []string{"MODEL=" + model, "HOST=127.0.0.1", "PORT=0", "ONNXRUNTIME_LIB=" + lib}
	logs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the classifier ends with %v", err)
		}
	})
	var line string
	for s := bufio.NewScanner(logs); s.Scan(); {
		line = s.Text()
		var ready struct{ Msg, Address, Model string }
		if err := json.Unmarshal([]byte(line), &ready); err == nil && ready.Msg == "ready" {
			_, port, err := net.SplitHostPort(ready.Address)
			if err != nil {
				t.Fatal(err)
			}
			return net.JoinHostPort("127.0.0.1", port), ready.Model
		}
	}
	t.Fatalf("the classifier does not become ready: %s", line)
	return "", ""
}

// several is a graph of many inputs and outputs, one of each kind of datatype.
func several(t *testing.T) string {
	t.Helper()
	var g onnxtest.Graph
	for _, x := range []struct {
		name string
		elem int
	}{{"float", 1}, {"byte", 2}, {"long", 7}, {"text", 8}, {"truth", 9}, {"half", 10}, {"double", 11}, {"brain", 16}} {
		g.Input(x.name, x.elem, -1, 3)
		g.Output(x.name+"_out", x.elem, -1, 3)
		g.Node("Identity", []string{x.name}, []string{x.name + "_out"}, nil)
	}
	path := filepath.Join(t.TempDir(), "several.onnx")
	if err := os.WriteFile(path, g.Model(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// plain is a graph of two inputs and two outputs, all of which JSON can hold.
func plain(t *testing.T) string {
	t.Helper()
	var g onnxtest.Graph
	g.Input("x", onnxtest.Float, -1, 3)
	g.Input("text", 8, -1)
	g.Output("twice", onnxtest.Float, -1, 3)
	g.Output("same", 8, -1)
	g.Node("Add", []string{"x", "x"}, []string{"twice"}, nil)
	g.Node("Identity", []string{"text"}, []string{"same"}, nil)
	path := filepath.Join(t.TempDir(), "plain.onnx")
	if err := os.WriteFile(path, g.Model(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTritonClient asks classifiers by Triton's own HTTP and gRPC clients.
func TestTritonClient(t *testing.T) {
	wanted(t)
	binary := classifier(t)
	for _, model := range []string{root + "/models/title", root + "/models/photo", several(t), plain(t)} {
		t.Run(filepath.Base(model), func(t *testing.T) {
			address, name := serve(t, binary, model)
			t.Log(env.Run(t, "test/recipes/triton_client.py", address, name))
		})
	}
}
