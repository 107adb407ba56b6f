package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// fewServices and manyServices are how many services at zero are compared.
const fewServices, manyServices = 2, 1000

// batch is how many objects a file has at most (internal/manifest).
const batch = 500

// many compares engines that differ in how many services they have alone: all
// at zero, each a trivial program.
func many(ctx context.Context, b *bench) (rows []row, err error) {
	dir, err := os.MkdirTemp("", "aisle-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	trivial := filepath.Join(dir, "trivial")
	if out, err := exec.CommandContext(ctx, "go", "build", "-ldflags=-s", "-o", trivial, "./test/acceptance/fixture").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the trivial service: %w\n%s", err, out)
	}
	empty, err := emptyPSS(ctx)
	if err != nil {
		return nil, err
	}
	memory := map[int]float64{}
	engines := map[int]*running{}
	for _, n := range []int{fewServices, 100, manyServices} {
		r, err := withServices(ctx, filepath.Join(dir, fmt.Sprint(n)), trivial, n)
		if err != nil {
			return nil, err
		}
		measured, pss, err := r.startedAnew(ctx, n)
		// Alone: engines at once would share the program's pages.
		if err = errors.Join(err, r.stop()); err != nil {
			return nil, err
		}
		rows, memory[n], engines[n] = append(rows, measured...), pss, r
		fmt.Fprintf(b.log, "many: %d services\n", n)
	}
	rows = append(rows,
		row{"2 services at zero over an empty aisle process, MB", fmt.Sprintf("%.1f over %.1f", memory[fewServices]-empty, empty), "≤ 20"},
		row{"each service at zero more, KB", fmt.Sprintf("%.1f", (memory[manyServices]-memory[fewServices])*1000/(manyServices-fewServices)), "≤ 50"})
	few, crowd, err := wakes(ctx, b, engines[fewServices], engines[manyServices])
	if err != nil {
		return nil, err
	}
	return append(rows,
		row{"a wake with 2 services, ms", few.String(), ""},
		row{"a wake with 1,000 services, ms", crowd.String(), ""},
		row{"  one over the other, pairwise", crowd.over(few).String(), "≤ 1.2"}), nil
}

// withServices starts an engine and applies services until it has n.
func withServices(ctx context.Context, dir, program string, n int) (*running, error) {
	folder := filepath.Join(dir, "manifests")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	files := map[string]string{
		"kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [services.yaml, settings.yaml]\n",
		"services.yaml":      services(0, fewServices),
		"settings.yaml": `apiVersion: v1
kind: ConfigMap
metadata: {name: config-autoscaler, namespace: knative-serving}
data: {allow-zero-initial-scale: "true", initial-scale: "0", stable-window: 6s, scale-to-zero-grace-period: 1s}
`,
		"images.yaml": fmt.Sprintf("apiVersion: aisle.dev/v1alpha1\nkind: ImageMap\nimages:\n  - image: bench.example/trivial\n    command: [%q]\n", program),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	r := newRunning(filepath.Join(dir, "data"), "-k", folder)
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	for from := fewServices; from < n; from += batch {
		cmd := exec.CommandContext(ctx, "bin/aisle", "apply", "--data-dir", r.state, "-f", "-")
		cmd.Stdin = strings.NewReader(services(from, min(n, from+batch)))
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, errors.Join(fmt.Errorf("apply: %w\n%s", err, out), r.stop())
		}
	}
	return r, nil
}

// services are the manifests of those of these numbers.
func services(from, to int) string {
	var all bytes.Buffer
	for i := from; i < to; i++ {
		fmt.Fprintf(&all, "---\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: %s}\nspec: {template: {spec: {containers: [{image: bench.example/trivial}]}}}\n", serviceName(i))
	}
	return all.String()
}

func serviceName(i int) string { return fmt.Sprintf("s%04d", i) }

// startedAnew stops and starts the engine several times, and then watches it at
// rest: its memory in MB is given too.
func (r *running) startedAnew(ctx context.Context, n int) ([]row, float64, error) {
	var starts, memory, cpu sample
	r.flags = append(r.flags, "--addr", r.address) // with another port every service's URL is another
	for range 5 {
		if err := r.stop(); err != nil {
			return nil, 0, err
		}
		begun := time.Now()
		if err := r.start(ctx); err != nil {
			return nil, 0, err
		}
		starts = append(starts, time.Since(begun).Seconds())
	}
	pid := r.cmd.Process.Pid
	const settling = 5 * time.Second // until the engine has given memory back
	for range 4 {
		before, err := cpuSeconds(pid)
		if err != nil {
			return nil, 0, err
		}
		select {
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-time.After(settling):
		}
		after, err := cpuSeconds(pid)
		if err != nil {
			return nil, 0, err
		}
		m, err := pss(pid)
		if err != nil {
			return nil, 0, err
		}
		memory, cpu = append(memory, m), append(cpu, 100*(after-before)/settling.Seconds())
	}
	memory, cpu = memory[1:], cpu[1:] // the first is that of settling
	return []row{
		{fmt.Sprintf("%d services, engine start, s", n), starts.String(), "≤ 2"},
		{fmt.Sprintf("%d services at zero, PSS, MB", n), memory.String(), ""},
		{fmt.Sprintf("%d services at zero, CPU, %%", n), cpu.String(), "≤ 0.5"},
	}, memory.median(), nil
}

// wakes asks a service at zero of each engine in turn.
func wakes(ctx context.Context, b *bench, few, many *running) (of2, of1000 sample, err error) {
	for _, r := range []*running{few, many} {
		if err := r.start(ctx); err != nil {
			return nil, nil, err
		}
		defer func() { err = errors.Join(err, r.stop()) }()
	}
	for i := 0; i < b.n; i++ {
		if i%fewServices == 0 {
			if err := few.atZero(ctx); err != nil {
				return nil, nil, err
			}
		}
		for _, w := range []struct {
			*running
			service int
			into    *sample
		}{{few, i % fewServices, &of2}, {many, i % manyServices, &of1000}} {
			ms, _, err := post(ctx, w.http, w.url(serviceName(w.service), "/echo"), "", []byte("{}"))
			if err != nil {
				return nil, nil, err
			}
			*w.into = append(*w.into, ms)
		}
	}
	return of2, of1000, nil
}

// emptyPSS is the memory, in MB, of the same program that does nothing: it waits
// for its standard input.
func emptyPSS(ctx context.Context) (float64, error) {
	cmd := exec.CommandContext(ctx, "bin/aisle", "apply", "-f", "-")
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start bin/aisle (make build first): %w", err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
	m, err := pss(cmd.Process.Pid)
	_ = in.Close()
	_ = cmd.Wait() // there was nothing to apply
	return m, err
}
