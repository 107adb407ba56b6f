package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// coldStart starts the engine anew for each request, so that everything is at
// zero, and asks once; the second, warm answer to the same request stands
// beside it.
func coldStart(ctx context.Context, b *bench) ([]row, error) {
	words, picture, err := sampleBodies()
	if err != nil {
		return nil, err
	}
	kinds := []struct {
		service, path, goal string
		body                []byte
	}{
		{"title", "/v1/classify", "≤ 60 ms", words},
		{"photo", "/v1/classify", "≤ 110 ms", picture},
		{"composer", "/category/predict", "≤ 160 ms", picture},
	}
	cold, warm := make([]sample, len(kinds)), make([]sample, len(kinds))
	r, err := up(ctx)
	if err != nil {
		return nil, err
	}
	for i := range b.n {
		for k, kind := range kinds {
			if i+k > 0 {
				if err := r.start(ctx); err != nil {
					return nil, err
				}
			}
			err := r.atZero(ctx)
			for _, into := range []*sample{&cold[k], &warm[k]} {
				if err == nil {
					var ms float64
					ms, _, err = post(ctx, r.http, r.url(kind.service, kind.path), "", kind.body)
					*into = append(*into, ms)
				}
			}
			if err = errors.Join(err, r.stop()); err != nil {
				return nil, err
			}
		}
		fmt.Fprintf(b.log, "\rcold: %d of %d", i+1, b.n)
	}
	fmt.Fprintln(b.log)
	var rows []row
	for k, kind := range kinds {
		rows = append(rows, row{"cold start, " + kind.service + ", ms", cold[k].String(), kind.goal},
			row{"  the same request warm, ms; cold/warm", fmt.Sprintf("%s; %.0f×", warm[k], cold[k].median()/warm[k].median()), ""})
	}
	return rows, os.RemoveAll(r.dir)
}

// overhead asks the title classifier in turn through the proxy and at its own
// port.
func overhead(ctx context.Context, b *bench) ([]row, error) {
	body, err := productJSON(sampleProduct(false))
	if err != nil {
		return nil, err
	}
	return withEngine(ctx, func(r *running) ([]row, error) {
		const host = "title.default.localhost"
		if _, _, err := post(ctx, r.http, r.url("title", "/v1/classify"), "", body); err != nil {
			return nil, err
		}
		pods, err := r.Pods(ctx)
		if err != nil {
			return nil, err
		}
		if len(pods) != 1 {
			return nil, fmt.Errorf("%d pods for one request", len(pods))
		}
		direct := &http.Client{Timeout: time.Minute}
		defer direct.CloseIdleConnections()
		var through, alone sample
		for i := range b.requests + 200 {
			t, _, err := post(ctx, r.http, r.url("title", "/v1/classify"), "", body)
			if err != nil {
				return nil, err
			}
			a, _, err := post(ctx, direct, "http://"+pods[0].Address+"/v1/classify", host, body)
			if err != nil {
				return nil, err
			}
			if i >= 200 { // both ways warm
				through, alone = append(through, t), append(alone, a)
			}
		}
		added := func(q float64) string {
			return fmt.Sprintf("%.3f (%.3f through, %.3f alone, %.2f×)", through.quantile(q)-alone.quantile(q), through.quantile(q), alone.quantile(q), through.quantile(q)/alone.quantile(q))
		}
		return []row{{"added by the engine, p50, ms", added(0.5), "≤ 0.3"}, {"added by the engine, p99, ms", added(0.99), "≤ 1"}}, nil
	})
}

// idle watches an engine that served once and has nothing left to do.
func idle(ctx context.Context, b *bench) ([]row, error) {
	body, err := productJSON(sampleProduct(true))
	if err != nil {
		return nil, err
	}
	return withEngine(ctx, func(r *running) ([]row, error) {
		if _, _, err := post(ctx, r.http, r.url("composer", "/category/predict"), "", body); err != nil {
			return nil, err
		}
		pods, err := r.Pods(ctx)
		if err != nil {
			return nil, err
		}
		var serving float64
		for _, p := range pods {
			m, err := pss(p.PID)
			if err != nil {
				return nil, err
			}
			serving += m
		}
		if err := r.atZero(ctx); err != nil {
			return nil, err
		}
		const watch = 30 * time.Second
		pid := r.cmd.Process.Pid
		var memory, cpu sample
		for range 3 {
			before, err := cpuSeconds(pid)
			if err != nil {
				return nil, err
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(watch / 3):
			}
			after, err := cpuSeconds(pid)
			if err != nil {
				return nil, err
			}
			m, err := pss(pid)
			if err != nil {
				return nil, err
			}
			memory, cpu = append(memory, m), append(cpu, 100*(after-before)/(watch.Seconds()/3))
		}
		return []row{
			{"engine idle, everything at zero, PSS, MB", fmt.Sprintf("%s; serving, its pods add %.0f", memory, serving), "≤ 60"},
			{"engine idle, everything at zero, CPU, %", cpu.String(), "≤ 0.5"},
		}, nil
	})
}

// pss is a process's proportional set size in MB (10^6 bytes).
func pss(pid int) (float64, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
			kb, err := strconv.ParseFloat(f[1], 64)
			return kb * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("no Pss in smaps_rollup of %d", pid)
}

// cpuSeconds is the user and system time of a process so far, from the
// scheduler's nanosecond count of each of its threads.
func cpuSeconds(pid int) (float64, error) {
	files, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "schedstat"))
	if err != nil {
		return 0, err
	}
	var ns float64
	for _, f := range files {
		data, err := os.ReadFile(f)
		if errors.Is(err, os.ErrNotExist) {
			continue // the thread ended
		}
		if err != nil {
			return 0, err
		}
		v, err := strconv.ParseFloat(strings.Fields(string(data))[0], 64)
		if err != nil {
			return 0, err
		}
		ns += v
	}
	return ns / 1e9, nil
}

// first runs what a newcomer types and watches for the first category,
// against the same with nothing to build.
func first(ctx context.Context, b *bench) ([]row, error) {
	var viaMake, demo sample
	for range 3 {
		for _, c := range []struct {
			argv []string
			into *sample
		}{{[]string{"make", "run", "ONCE=1"}, &viaMake}, {[]string{"bin/aisle", "demo", "--once"}, &demo}} {
			cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				return nil, err
			}
			start := time.Now()
			if err := cmd.Start(); err != nil {
				return nil, err
			}
			seconds, err := firstCategory(out, start)
			if err = errors.Join(err, cmd.Wait()); err != nil {
				return nil, fmt.Errorf("%s: %w", strings.Join(c.argv, " "), err)
			}
			*c.into = append(*c.into, seconds)
		}
	}
	return []row{
		{"make run ONCE=1, first category after, s", viaMake.String(), "≤ 60"},
		{"  the same without building, s", demo.String(), ""},
	}, nil
}
