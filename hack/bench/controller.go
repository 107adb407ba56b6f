package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"aisle.dev/aisle/activator/controller/controllertest"
)

// controllerMemory runs the controller against an API server without pods, with
// one and with a thousand schedules, each for a service of its own.
func controllerMemory(ctx context.Context, b *bench) (rows []row, err error) {
	dir, err := os.MkdirTemp("", "aisle-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program := filepath.Join(dir, "controller")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./activator")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as in its image
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the controller: %w\n%s", err, out)
	}
	state := filepath.Join(dir, "apiserver")
	if err := os.Mkdir(state, 0o700); err != nil {
		return nil, err
	}
	s, err := controllertest.Start(ctx, state, "manifests/controller/crd.yaml")
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	c, err := client.New(s.Config(), client.Options{})
	if err != nil {
		return nil, err
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, s.Kubeconfig(), 0o600); err != nil {
		return nil, err
	}
	made := 0
	for _, n := range []int{1, manyServices} {
		if err := bounded(ctx, c, made, n); err != nil {
			return nil, err
		}
		made = n
		rest, most, cpu, err := controllerAtRest(ctx, c, program, kubeconfig, n)
		if err != nil {
			return nil, err
		}
		goal := map[int]string{1: "≤ 40", manyServices: "≤ 80"}[n]
		rows = append(rows, row{fmt.Sprintf("controller with %d schedules at rest, MB", n), fmt.Sprintf("%.1f (the most it had: %.1f)", rest, most), goal},
			row{fmt.Sprintf("controller with %d schedules at rest, CPU", n), fmt.Sprintf("%.2f%%", 100*cpu), ""})
		fmt.Fprintf(b.log, "controller: %d schedules\n", n)
	}
	return rows, nil
}

// bounded makes services from one number up to another, each with a Revision
// that gets all its requests and a schedule whose bounds hold.
func bounded(ctx context.Context, c client.Client, from, to int) error {
	type object = map[string]any
	const workers = 8
	failed := make([]error, workers)
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := from + w; i < to && failed[w] == nil; i += workers {
				name := fmt.Sprintf("s%04d", i)
				container := object{"containers": []any{object{"image": "bench.example/trivial"}}}
				meta := object{"name": name, "namespace": "default", "labels": object{"serving.knative.dev/service": name}, "annotations": object{"serving.knative.dev/creator": "bench"}}
				service := &unstructured.Unstructured{Object: object{"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": meta, "spec": object{"template": object{"spec": container}}}}
				revision := &unstructured.Unstructured{Object: object{"apiVersion": "serving.knative.dev/v1", "kind": "Revision", "metadata": meta, "spec": container}}
				schedule := &unstructured.Unstructured{Object: object{"apiVersion": "scaling.aisle.dev/v1alpha1", "kind": "ScalingSchedule", "metadata": object{"name": name, "namespace": "default"},
					"spec": object{"service": name, "timeZone": "Europe/Berlin", "readyBy": true, "windows": []any{
						object{"name": "always", "floor": int64(1)}, object{"name": "office", "days": []any{"Mon-Fri"}, "start": "08:00", "end": "18:00", "floor": int64(2), "cap": int64(4)},
					}}}}
				for _, o := range []*unstructured.Unstructured{service.DeepCopy(), revision, schedule} {
					failed[w] = errors.Join(failed[w], c.Create(ctx, o))
					if o.GetKind() == "Service" && failed[w] == nil {
						o.Object["status"] = object{"traffic": []any{object{"revisionName": name, "percent": int64(100)}}}
						failed[w] = c.Status().Update(ctx, o)
					}
				}
			}
		})
	}
	wait.Wait()
	return errors.Join(failed...)
}

// controllerAtRest starts a controller, waits until each of n schedules has its
// bounds, and then for a while in which nothing changes.
func controllerAtRest(ctx context.Context, c client.Client, program, kubeconfig string, n int) (rest, most, cpu float64, err error) {
	cmd := exec.CommandContext(ctx, program, "-metrics", "127.0.0.1:0", "-probes", "0", "-log", "ERROR")
	cmd.Env = []string{"KUBECONFIG=" + kubeconfig, "HOME=" + filepath.Dir(kubeconfig)}
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		return 0, 0, 0, err
	}
	defer func() {
		err = errors.Join(err, cmd.Process.Signal(os.Interrupt), cmd.Wait())
	}()
	err = every(ctx, time.Second, 5*time.Minute, func() (bool, error) {
		all := &unstructured.UnstructuredList{}
		all.SetAPIVersion("scaling.aisle.dev/v1alpha1")
		all.SetKind("ScalingScheduleList")
		if err := c.List(ctx, all); err != nil {
			return false, err
		}
		set := 0
		for _, o := range all.Items {
			if name, _, _ := unstructured.NestedString(o.Object, "status", "revision"); name != "" {
				set++
			}
		}
		return set == n, nil
	})
	if err != nil {
		return 0, 0, 0, fmt.Errorf("%d schedules: %w", n, err)
	}
	const quiet = 2 * time.Minute // each service is looked at twice
	before, err := cpuSeconds(cmd.Process.Pid)
	if err != nil {
		return 0, 0, 0, err
	}
	select {
	case <-time.After(quiet):
	case <-ctx.Done():
		return 0, 0, 0, ctx.Err()
	}
	after, err := cpuSeconds(cmd.Process.Pid)
	if err != nil {
		return 0, 0, 0, err
	}
	if rest, err = resident(cmd.Process.Pid, "VmRSS:"); err == nil {
		most, err = resident(cmd.Process.Pid, "VmHWM:")
	}
	return rest, most, (after - before) / quiet.Seconds(), err
}

// resident reads a process' memory in MB from /proc/PID/status.
func resident(pid int, field string) (float64, error) {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) == 3 && words[0] == field {
			kb, err := strconv.ParseFloat(words[1], 64)
			return kb * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("no %s of process %d", field, pid)
}
