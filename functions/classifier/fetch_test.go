package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/classify/classifytest"
	"aisle.dev/aisle/internal/ortlib"
)

// started runs a classifier until the test's end, and gives its address.
func started(t *testing.T, env map[string]string) (base string, client *http.Client) {
	t.Helper()
	lib, err := ortlib.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	env["PORT"], env["HOST"], env["ONNXRUNTIME_LIB"] = "0", "127.0.0.1", lib
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context())) // it is ended by the cleanup, which waits
	logs, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- run(ctx, environment(env), w); w.Close() }()
	lines := bufio.NewReader(logs)
	var ready struct{ Msg, Address string }
	for ready.Msg != "ready" {
		line, err := lines.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &ready)
		}
		if err != nil {
			stop()
			t.Fatalf("%s, %v: %v", line, err, <-done)
		}
	}
	go func() { _, _ = io.Copy(io.Discard, logs) }()
	tr := &http.Transport{}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	_, port, err := net.SplitHostPort(ready.Address)
	if err != nil {
		t.Fatal(err)
	}
	return "http://127.0.0.1:" + port, &http.Client{Transport: tr}
}

// TestPictureByURL: a picture on this machine is fetched where the manifest
// names it, and nowhere else.
func TestPictureByURL(t *testing.T) {
	var green bytes.Buffer
	im := image.NewRGBA(image.Rect(0, 0, 8, 8))
	draw.Draw(im, im.Bounds(), image.NewUniform(color.RGBA{G: 255, A: 255}), image.Point{}, draw.Src)
	if err := png.Encode(&green, im); err != nil {
		t.Fatal(err)
	}
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(green.Bytes()) }))
	defer shop.Close()
	host := shop.Listener.Addr().String()
	for name, tt := range map[string]struct {
		env    map[string]string
		status int
		want   string
	}{
		"allowed":     {map[string]string{"FETCH_ALLOW": "images.shop.example, " + host}, 200, `"label":"Green"`},
		"not allowed": {map[string]string{}, 422, "is fetched at port 80 alone"},
		"off":         {map[string]string{"FETCH": "off", "FETCH_ALLOW": host}, 422, "FETCH=off"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.env["MODEL"] = classifytest.Photo(t)
			base, client := started(t, tt.env)
			body := strings.NewReader(`{"images":[{"url":"` + shop.URL + `/green.png"}]}`)
			resp, err := client.Post(base+"/v1/classify", "application/json", body)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != tt.status || !strings.Contains(string(answer), tt.want) {
				t.Errorf("%d %s, %v; want %d %q", resp.StatusCode, answer, err, tt.status, tt.want)
			}
			if resp, err = client.Get(base + "/metrics"); err != nil {
				t.Fatal(err)
			}
			answer, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			if counted := strings.Contains(string(answer), "aisle_classifier_fetch_seconds_count"); err != nil || counted == (name == "off") {
				t.Errorf("%s: counted %v, %v", name, counted, err)
			}
		})
	}
}
