package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Ports of Knative's proxies for HTTP/1.
const (
	queueProxyPort = "8012"
	activatorPort  = "8012"
	functionPort   = "8080"
)

// way is one place where a request can enter the path.
type way struct {
	name, address string
	header        http.Header
	http          *http.Client
	took          sample
}

// clusterWarm asks a warm pod of each service in turn at every place of the
// path: at the function itself, at its queue-proxy, at the activator, at the
// gateway. What one adds is the difference of two. It runs where the pods'
// addresses can be reached: on the test cluster's machine, or on a node.
func clusterWarm(ctx context.Context, b *bench) ([]row, error) {
	words, picture, err := sampleBodies()
	if err != nil {
		return nil, err
	}
	return withCluster(ctx, b, func(c *cluster) ([]row, error) {
		var rows []row
		for _, kind := range []struct {
			service, path string
			body          []byte
		}{{"trivial", "/echo", words}, {"title", "/v1/classify", words}, {"photo", "/v1/classify", picture}, {"composer", "/category/predict", picture}} {
			some, err := c.hops(ctx, kind.service, kind.path, kind.body)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", kind.service, err)
			}
			rows = append(rows, some...)
		}
		return rows, nil
	})
}

func (c *cluster) hops(ctx context.Context, service, path string, body []byte) ([]row, error) {
	if _, _, err := post(ctx, c.http, c.url(service, path), "", body); err != nil { // wakes it
		return nil, err
	}
	pods, err := c.podsOf(ctx, service)
	if err != nil {
		return nil, err
	}
	if len(pods) != 1 || pods[0].Address == "" {
		return nil, fmt.Errorf("%d pods for one request", len(pods))
	}
	var activators struct {
		Items []struct{ Status struct{ PodIP string } }
	}
	if err := c.object(ctx, &activators, "pods", "-n", "knative-serving", "-l", "app=activator"); err != nil {
		return nil, err
	}
	if len(activators.Items) == 0 {
		return nil, errors.New("there is no activator in knative-serving")
	}
	var sks struct{ Spec struct{ Mode string } }
	if err := c.object(ctx, &sks, "serverlessservices.networking.internal.knative.dev", "-n", namespace, pods[0].Revision); err != nil {
		return nil, err
	}
	inPath := map[string]string{"Proxy": "through the activator", "Serve": "past the activator"}[sks.Spec.Mode]

	host := strings.TrimPrefix(strings.TrimPrefix(c.services[service], "http://"), "https://")
	ways := []*way{
		{name: "function", address: net.JoinHostPort(pods[0].Address, functionPort)},
		{name: "queue-proxy", address: net.JoinHostPort(pods[0].Address, queueProxyPort)},
		{name: "activator", address: net.JoinHostPort(activators.Items[0].Status.PodIP, activatorPort), header: http.Header{
			"Knative-Serving-Namespace": {namespace}, "Knative-Serving-Revision": {pods[0].Revision}}},
		{name: "gateway", address: c.gateway},
	}
	for _, w := range ways {
		w.http = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableCompression: true}}
		defer w.http.CloseIdleConnections()
	}
	var inside sample // what the function says that it took, of requests straight to it
	const unmeasured = 50
	for i := range c.b.hops + unmeasured {
		for k := range ways {
			w := ways[(k+i)%len(ways)] // each follows each
			ms, own, err := w.ask(ctx, host, path, body)
			if err != nil {
				return nil, fmt.Errorf("at the %s (%s): %w", w.name, w.address, err)
			}
			if i < unmeasured {
				continue
			}
			if w.took = append(w.took, ms); w.name == "function" && own > 0 {
				inside = append(inside, own)
			}
		}
	}
	goal := map[string]string{"title": "ours ≤ 1 p99", "composer": "ours ≤ 1 p99"}[service]
	p := func(s sample) string { return fmt.Sprintf("%.2f / %.2f", s.median(), s.quantile(0.99)) }
	rows := []row{{fmt.Sprintf("%s warm, whole path, p50 / p99, ms", service), fmt.Sprintf("%s  (%s, n=%d)", p(ways[3].took), inPath, len(ways[3].took)), ""},
		{"  at the function itself, p50 / p99", p(ways[0].took), ""}}
	if len(inside) > 0 {
		rows = append(rows, row{"  of that in our own code, p50 / p99", p(inside), goal})
	}
	for i, w := range ways[1:] {
		d := w.took.median() - ways[i].took.median()
		rows = append(rows, row{"  at the " + w.name + ", p50 / p99; it adds to p50", fmt.Sprintf("%s; %.2f, %.0f%% of the path", p(w.took), d, 100*d/ways[3].took.median()), ""})
	}
	return rows, nil
}

// ask sends one request and returns how long the whole answer took and what
// the function says of it, both in milliseconds.
func (w *way) ask(ctx context.Context, host, path string, body []byte) (ms, own float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.address+path, bytes.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	req.Host = host
	for k, v := range w.header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/json")
	start := time.Now()
	resp, err := w.http.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	ms = float64(time.Since(start).Microseconds()) / 1000
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(answer))
	}
	if err != nil {
		return 0, 0, err
	}
	return ms, spent(resp.Header), nil
}

// spent is the time within our own code as Server-Timing has it: a classifier's
// phases; of the composer all but what it waited for its slowest leg.
func spent(h http.Header) float64 {
	total := 0.0
	for metric := range strings.SplitSeq(h.Get("Server-Timing"), ",") {
		name, dur, ok := strings.Cut(strings.TrimSpace(metric), ";dur=")
		if v, err := strconv.ParseFloat(dur, 64); ok && err == nil && slices.Contains([]string{"queue", "preprocess", "infer", "compose"}, name) {
			total += v
		}
	}
	return total
}
