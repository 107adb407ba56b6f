package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"aisle.dev/aisle/internal/classify"
	"aisle.dev/aisle/internal/classify/classifytest"
	"aisle.dev/aisle/internal/onnx/onnxtest"
	"aisle.dev/aisle/internal/ortlib"
	"aisle.dev/aisle/internal/prediction"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func environment(values map[string]string) func(string) string {
	return func(k string) string { return values[k] }
}

// TestRun is the whole function: from its environment to a clean stop.
func TestRun(t *testing.T) {
	lib, err := ortlib.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ dir, title, want string }{
		"a test's package":  {classifytest.Title(t), "steel watch", "Watches"},
		"the title package": {filepath.Join("..", "..", "models", "title"), "Titan Women Silver Watch", "Watches"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			logs, w := io.Pipe()
			done := make(chan error, 1)
			go func() {
				done <- run(ctx, environment(map[string]string{"MODEL": tt.dir, "PORT": "0", "AISLE_LAUNCHED": strconv.FormatInt(time.Now().UnixNano(), 10), "ONNXRUNTIME_LIB": lib, "QUEUE": "8", "TIMEOUT": "10s"}), w)
				w.Close()
			}()
			var ready struct {
				Msg, Address, Model, Digest, Device string
				RuntimeLoadedMs, ModelReadMs        float64
				GraphLoadedMs, ReadyMs              float64
			}
			line, err := bufio.NewReader(logs).ReadBytes('\n')
			if err != nil {
				t.Fatalf("no log line (%v): %v", err, <-done)
			}
			if err := json.Unmarshal(line, &ready); err != nil || ready.Msg != "ready" {
				t.Fatalf("%s: %v", line, err)
			}
			// The environment may have been loaded by another test: only the
			// graph is this one's.
			if ready.Device != "cpu" || ready.Model != "title" || !(ready.ModelReadMs > 0 && ready.GraphLoadedMs >= ready.RuntimeLoadedMs && ready.ReadyMs >= ready.GraphLoadedMs) {
				t.Errorf("%s", line)
			}
			go func() { _, _ = io.Copy(io.Discard, logs) }()

			_, port, err := net.SplitHostPort(ready.Address)
			if err != nil {
				t.Fatal(err)
			}
			tr := &http.Transport{}
			client := &http.Client{Transport: tr, Timeout: 10 * time.Second}
			resp, err := client.Get("http://127.0.0.1:" + port + "/readyz")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("readyz %d", resp.StatusCode)
			}
			// What the engine makes its histogram and Server-Timing of.
			var sum float64
			for i, metric := range strings.Split(resp.Header.Get("Server-Timing"), ", ") {
				name, ms, _ := strings.Cut(metric, ";dur=")
				took, err := strconv.ParseFloat(ms, 64)
				if phases := []string{"exec", "runtime", "model", "warmup"}; i >= len(phases) || name != phases[i] || err != nil || took < 0 {
					t.Errorf("phases %q", resp.Header["Server-Timing"])
				}
				sum += took
			}
			if math.Abs(sum-ready.ReadyMs) > 0.01 {
				t.Errorf("phases %q take %g ms together, not the %g until it was ready", resp.Header["Server-Timing"], sum, ready.ReadyMs)
			}
			resp, err = client.Get("http://127.0.0.1:" + port + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			if metrics, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(metrics), `aisle_classifier_start_seconds_count{phase="total"} 1`) {
				t.Fatalf("%s, %v", metrics, err)
			}
			resp.Body.Close()
			body, _ := json.Marshal(map[string]string{"title": tt.title})
			resp, err = client.Post("http://127.0.0.1:"+port+"/v1/classify", "application/json", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			var res prediction.Result
			if err := json.NewDecoder(resp.Body).Decode(&res); err != nil || res.Top().Label != tt.want || res.Model.Digest != ready.Digest {
				t.Errorf("%+v, %v; want %s", res, err, tt.want)
			}
			resp.Body.Close()
			tr.CloseIdleConnections()
			stop()
			if err := <-done; err != nil {
				t.Errorf("run returned %v", err)
			}
		})
	}
}

func TestStartErrors(t *testing.T) {
	lib, err := ortlib.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := classifytest.Title(t)
	broken := classifytest.Title(t)
	if err := os.WriteFile(filepath.Join(broken, "model.onnx"), []byte("another graph"), 0o644); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, taken, _ := net.SplitHostPort(ln.Addr().String())
	for name, tt := range map[string]struct {
		env  map[string]string
		want string
	}{
		"no MODEL":         {map[string]string{}, "MODEL is not set"},
		"absent package":   {map[string]string{"MODEL": dir + "x"}, "no such file"},
		"changed graph":    {map[string]string{"MODEL": broken}, "model.yaml pins"},
		"absent library":   {map[string]string{"MODEL": dir, "ONNXRUNTIME_LIB": "/absent.so"}, "ONNXRUNTIME_LIB names a library that cannot be used"},
		"unknown device":   {map[string]string{"MODEL": dir, "DEVICE": "tpu"}, `DEVICE "tpu"`},
		"device not there": {map[string]string{"MODEL": dir, "DEVICE": "cuda"}, "device cuda was asked for and is not usable"},
		"QUEUE":            {map[string]string{"MODEL": dir, "QUEUE": "none"}, `QUEUE "none"`},
		"MAX_BODY":         {map[string]string{"MODEL": dir, "MAX_BODY": "1MB"}, `MAX_BODY "1MB"`},
		"MAX_BODY, huge":   {map[string]string{"MODEL": dir, "MAX_BODY": "99999999999"}, "a body of at most"},
		"FETCH":            {map[string]string{"MODEL": dir, "FETCH": "maybe"}, `FETCH "maybe"`},
		"FETCH_ALLOW":      {map[string]string{"MODEL": dir, "FETCH_ALLOW": "10.0.0.0/8, http://a"}, `FETCH_ALLOW: allowed host "http://a"`},
		"TIMEOUT":          {map[string]string{"MODEL": dir, "TIMEOUT": "20"}, `TIMEOUT "20"`},
		"CUDA_DEVICE":      {map[string]string{"MODEL": dir, "CUDA_DEVICE": "-1"}, `CUDA_DEVICE "-1"`},
		"CUDA_MEMORY":      {map[string]string{"MODEL": dir, "CUDA_MEMORY": "4Gi"}, `CUDA_MEMORY "4Gi"`},
		"truncated graph":  {map[string]string{"MODEL": bare(t, onnxtest.Same(onnxtest.Float, 1)[:40])}, "it is truncated"},
		"sequence alone":   {map[string]string{"MODEL": bare(t, sequence())}, "0 outputs that can be served"},
		"LOG_LEVEL":        {map[string]string{"MODEL": dir, "LOG_LEVEL": "loud"}, `LOG_LEVEL "loud"`},
		"traces":           {map[string]string{"MODEL": dir, "OTEL_EXPORTER_OTLP_ENDPOINT": "grpc://a"}, "not an http or https URL"},
		"PORT is taken":    {map[string]string{"MODEL": dir, "PORT": taken}, "listen on PORT " + taken},
	} {
		t.Run(name, func(t *testing.T) {
			tt.env["ONNXRUNTIME_LIB"] = or(tt.env["ONNXRUNTIME_LIB"], lib)
			tt.env["PORT"] = or(tt.env["PORT"], "0")
			err := run(t.Context(), environment(tt.env), io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// bare is a graph's file without a package.
func bare(t *testing.T, graph []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "graph.onnx")
	if err := os.WriteFile(path, graph, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// sequence is a graph whose one output no protocol has a word for.
func sequence() []byte {
	var g onnxtest.Graph
	g.Input("x", onnxtest.Float, 1)
	g.Maps("y", onnxtest.Int64)
	return g.Model()
}

// A bare graph gets ready, and is cached where it is to be.
func TestBare(t *testing.T) {
	lib, err := ortlib.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, graph := range map[string][]byte{"tensors": onnxtest.Same(onnxtest.Float, -1, 2), "ZipMap": onnxtest.ZipMap([]string{"a", "b"})} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			logs, w := io.Pipe()
			done := make(chan error, 1)
			cache := t.TempDir()
			go func() {
				done <- run(ctx, environment(map[string]string{"MODEL": bare(t, graph), "PORT": "0", "ONNXRUNTIME_LIB": lib, "CACHE_DIR": cache}), w)
				w.Close()
			}()
			line, err := bufio.NewReader(logs).ReadString('\n')
			if err != nil {
				t.Fatalf("no log line (%v): %v", err, <-done)
			}
			if !strings.Contains(line, `"msg":"ready"`) {
				t.Error(line)
			}
			go func() { _, _ = io.Copy(io.Discard, logs) }()
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
			files, err := os.ReadDir(cache)
			if want := map[string]int{"tensors": 1}[name]; err != nil || len(files) != want {
				t.Errorf("%d graphs are cached, want %d; %v", len(files), want, err)
			}
		})
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func TestConfigure(t *testing.T) {
	lib := filepath.Join(t.TempDir(), "lib.so")
	if err := os.WriteFile(lib, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := configure(environment(map[string]string{"MODEL": "m", "ONNXRUNTIME_LIB": lib}))
	want := config{model: "m", device: "cpu", library: lib, fetch: true, timeout: classify.DefaultTimeout}
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	got, err = configure(environment(map[string]string{
		"MODEL": "m", "ONNXRUNTIME_LIB": lib, "PORT": "9", "DEVICE": "auto", "QUEUE": "3", "MAX_BODY": "4096", "TIMEOUT": "1m", "LOG_LEVEL": "debug", "FETCH": "off",
	}))
	want = config{port: "9", model: "m", device: "auto", library: lib, queue: 3, maxBody: 4096, timeout: time.Minute, level: slog.LevelDebug}
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

func TestSinceLaunch(t *testing.T) {
	now := time.Now()
	at := func(ago time.Duration) string { return strconv.FormatInt(now.Add(-ago).UnixNano(), 10) }
	if took, err := sinceLaunch(at(3*time.Millisecond), now); took != 3*time.Millisecond || err != nil {
		t.Errorf("%s, %v", took, err)
	}
	// What cannot be the launch of this process is the kernel's to tell.
	for _, launched := range []string{"", "soon", at(-time.Second), at(time.Hour)} {
		if took, err := sinceLaunch(launched, now); err != nil || took < 0 || took == time.Hour {
			t.Errorf("%q: %s, %v", launched, took, err)
		}
	}
	const stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4200 1000 1"
	if took, err := sinceStart(stat, "42.13 80.00\n"); took != 130*time.Millisecond || err != nil {
		t.Errorf("%s, %v", took, err)
	}
	for _, broken := range [][2]string{{"", "1 1"}, {stat, ""}, {stat, "x 1"}, {"7 (a) S 1", "1 1"}} {
		if took, err := sinceStart(broken[0], broken[1]); err == nil {
			t.Errorf("%q: %s", broken, took)
		}
	}
}
