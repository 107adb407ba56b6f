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

// TestPictureByURL: a picture on this machine is fetched where the manifest
// names it, and nowhere else.
func TestPictureByURL(t *testing.T) {
	lib, err := ortlib.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
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
			tt.env["MODEL"], tt.env["PORT"], tt.env["HOST"], tt.env["ONNXRUNTIME_LIB"] = classifytest.Photo(t), "0", "127.0.0.1", lib
			ctx, stop := context.WithCancel(t.Context())
			logs, w := io.Pipe()
			done := make(chan error, 1)
			go func() { done <- run(ctx, environment(tt.env), w); w.Close() }()
			var ready struct{ Address string }
			line, err := bufio.NewReader(logs).ReadBytes('\n')
			if err != nil || json.Unmarshal(line, &ready) != nil {
				t.Fatalf("%s, %v: %v", line, err, <-done)
			}
			go func() { _, _ = io.Copy(io.Discard, logs) }()
			_, port, err := net.SplitHostPort(ready.Address)
			if err != nil {
				t.Fatal(err)
			}
			tr := &http.Transport{}
			client := &http.Client{Transport: tr}
			body := strings.NewReader(`{"images":[{"url":"` + shop.URL + `/green.png"}]}`)
			resp, err := client.Post("http://127.0.0.1:"+port+"/v1/classify", "application/json", body)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != tt.status || !strings.Contains(string(answer), tt.want) {
				t.Errorf("%d %s, %v; want %d %q", resp.StatusCode, answer, err, tt.status, tt.want)
			}
			if resp, err = client.Get("http://127.0.0.1:" + port + "/metrics"); err != nil {
				t.Fatal(err)
			}
			answer, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			if counted := strings.Contains(string(answer), "aisle_classifier_fetch_seconds_count"); err != nil || counted == (name == "off") {
				t.Errorf("%s: counted %v, %v", name, counted, err)
			}
			tr.CloseIdleConnections()
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}
