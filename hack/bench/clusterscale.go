package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"aisle.dev/aisle/internal/client"
)

// Scale-out: as many requests as this, each of a tenth of a second, to a
// service that takes ten a pod and has one.
const (
	inFlight = 64
	most     = 5
	work     = "/sleep?ms=100"
)

// clusterScale loads the same service on one machine and on the cluster, in
// turn, and watches its pods become ready.
func clusterScale(ctx context.Context, b *bench) ([]row, error) {
	return withCluster(ctx, b, func(c *cluster) ([]row, error) {
		e, err := wideEngine(ctx)
		if err != nil {
			return nil, err
		}
		rows, err := scaleBoth(ctx, b, c, e)
		return rows, errors.Join(err, e.stop(), os.RemoveAll(e.dir))
	})
}

// wideEngine runs the services of cluster/ on this machine.
func wideEngine(ctx context.Context) (*running, error) {
	dir, err := os.MkdirTemp("", "aisle-bench-")
	if err != nil {
		return nil, err
	}
	manifests, err := writeManifests(dir)
	if err == nil {
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", filepath.Join(dir, "bin", "fixture"), "./test/acceptance/fixture")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	r := &running{Engine: client.NewEngine(filepath.Join(dir, "state")), dir: dir, state: filepath.Join(dir, "state"), flags: []string{"-k", manifests, "--root", dir}}
	if err == nil {
		err = r.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return r, nil
}

// writeManifests makes cluster/ a kustomize folder below dir.
func writeManifests(dir string) (string, error) {
	manifests := filepath.Join(dir, "manifests")
	err := os.CopyFS(manifests, clusterFiles)
	return filepath.Join(manifests, "cluster"), errors.Join(err,
		os.WriteFile(filepath.Join(manifests, "cluster", "kustomization.yaml"), []byte("resources: [services.yaml, config-autoscaler.yaml]\n"), 0o644))
}

func scaleBoth(ctx context.Context, b *bench, c *cluster, e *running) ([]row, error) {
	places := []struct {
		name  string
		http  *http.Client
		url   string
		poll  time.Duration
		pods  func(context.Context) ([]client.Pod, error)
		times []sample // to 2, 3 ... ready pods, seconds
	}{
		{"one machine", e.http, "http://wide." + namespace + ".localhost" + work, 5 * time.Millisecond, func(ctx context.Context) ([]client.Pod, error) { return wideOf(e.Pods(ctx)) }, make([]sample, most-1)},
		{"cluster", c.http, c.url("wide", work), 50 * time.Millisecond, func(ctx context.Context) ([]client.Pod, error) { return wideOf(c.Pods(ctx)) }, make([]sample, most-1)},
	}
	for i := range b.rounds {
		for _, p := range places {
			ready := func(n int) func() (bool, error) {
				return func() (bool, error) {
					pods, err := p.pods(ctx)
					k := 0
					for _, pod := range pods {
						if pod.Phase == "Ready" {
							k++
						}
					}
					return n == 1 && k == 1 && len(pods) == 1 || n > 1 && k >= n, err
				}
			}
			if err := every(ctx, p.poll, 3*time.Minute, ready(1)); err != nil {
				return nil, fmt.Errorf("%s: one pod at rest: %w", p.name, err)
			}
			stop := load(ctx, p.http, p.url)
			start := time.Now()
			var err error
			for n := 2; n <= most && err == nil; n++ {
				if err = every(ctx, p.poll, time.Minute, ready(n)); err == nil {
					p.times[n-2] = append(p.times[n-2], time.Since(start).Seconds())
				}
			}
			if err = errors.Join(err, stop()); err != nil {
				return nil, fmt.Errorf("%s: %w", p.name, err)
			}
		}
		fmt.Fprintf(b.log, "\rcluster-scale: %d of %d", i+1, b.rounds)
	}
	fmt.Fprintln(b.log)
	var rows []row
	for n := range most - 1 {
		for _, p := range places {
			rows = append(rows, row{fmt.Sprintf("scale-out, 1 to %d ready pods, %s, s", n+2, p.name), p.times[n].String(), ""})
		}
	}
	return rows, nil
}

func wideOf(all []client.Pod, err error) ([]client.Pod, error) {
	return slices.DeleteFunc(all, func(p client.Pod) bool { return p.Service != "wide" || p.Phase == "Draining" }), err
}

// load keeps requests in flight until stop is called, which waits for them.
func load(ctx context.Context, c *http.Client, url string) (stop func() error) {
	going, end := context.WithTimeout(ctx, 5*time.Minute)
	var wg sync.WaitGroup
	var mu sync.Mutex // guards failed, first
	failed, first := 0, error(nil)
	for range inFlight {
		wg.Go(func() {
			for going.Err() == nil {
				err := get(ctx, c, url)
				if err == nil {
					continue
				}
				mu.Lock()
				if failed++; failed == 1 {
					first = err
				}
				mu.Unlock()
				if pause(going, 100*time.Millisecond) != nil {
					return
				}
			}
		})
	}
	return func() error {
		end()
		wg.Wait()
		if failed > 0 {
			return fmt.Errorf("%d requests failed, the first: %w", failed, first)
		}
		return nil
	}
}

func get(ctx context.Context, c *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return err
}
