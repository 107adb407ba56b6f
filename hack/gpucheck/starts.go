package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	starter = "bin/classifier"
	longest = time.Minute // of one start
)

// classifier is a classifier's process, on a port of its own choice.
func classifier(ctx context.Context, name, lib, device string, env ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, starter)
	cmd.Env = append(slices.Clone(env), "MODEL=models/"+name, "HOST=127.0.0.1", "PORT=0", "DEVICE="+device, "ONNXRUNTIME_LIB="+lib,
		"LD_LIBRARY_PATH="+os.Getenv("LD_LIBRARY_PATH"), "AISLE_LAUNCHED="+strconv.FormatInt(time.Now().UnixNano(), 10))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// ready is the line that a classifier logs when it is.
type ready struct {
	Msg, Device                                     string
	MainMs, RuntimeLoadedMs, GraphLoadedMs, ReadyMs float64
}

// starts starts a classifier a few times, and says how long each phase took in
// the middle one. One that is to choose its device must have chosen want.
func starts(ctx context.Context, w io.Writer, name, lib, device, want string, times int) error {
	var all []ready
	for range times {
		r, err := start(ctx, name, lib, device)
		if err != nil {
			return err
		}
		if device == "auto" && r.Device != want {
			return fmt.Errorf("it chose %s, not %s", r.Device, want)
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b ready) int { return int(a.ReadyMs - b.ReadyMs) })
	m := all[times/2]
	fmt.Fprintf(w, "%s with DEVICE=%s: ready on %s after %.0f ms (exec %.0f, runtime %.0f, model %.0f, warm-up %.0f), the middle of %d\n",
		name, device, m.Device, m.ReadyMs, m.MainMs, m.RuntimeLoadedMs-m.MainMs, m.GraphLoadedMs-m.RuntimeLoadedMs, m.ReadyMs-m.GraphLoadedMs, times)
	return nil
}

func start(ctx context.Context, name, lib, device string) (ready, error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	cmd := classifier(ctx, name, lib, device)
	logs, err := cmd.StderrPipe()
	if err != nil {
		return ready{}, err
	}
	if err := cmd.Start(); err != nil {
		return ready{}, err
	}
	var r ready
	var said bytes.Buffer
	lines := bufio.NewScanner(io.TeeReader(io.LimitReader(logs, 1<<20), &said))
	for r.Msg != "ready" && lines.Scan() {
		_ = json.Unmarshal(lines.Bytes(), &r) // what is no log line is not the one
	}
	cancel()
	_, _ = io.Copy(io.Discard, logs)
	err = cmd.Wait()
	if r.Msg != "ready" {
		return ready{}, fmt.Errorf("it did not get ready (%w): %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return r, nil
}

// absent asks for a GPU that no machine has.
func absent(ctx context.Context, w io.Writer, lib string) error {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	out, err := classifier(ctx, "title", lib, "cuda", "CUDA_DEVICE=255").CombinedOutput()
	text := strings.TrimSpace(string(out))
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		return fmt.Errorf("a GPU that is not there: want exit code 1, and got %w: %s", err, text)
	}
	if strings.Contains(text, "\n") || !strings.Contains(text, "cuda was asked for and is not usable") {
		return fmt.Errorf("a GPU that is not there: want one line that says so, and got %q", text)
	}
	fmt.Fprintf(w, "a GPU that is not there: %s\n", text)
	return nil
}
