package main

import (
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
)

// phases are the moments of a start, as times since main began. (From exec to
// main it takes the operating system and Go some 3 ms, which the process
// cannot see.)
type phases struct {
	mu                            sync.Mutex // guards what follows: phases run side by side
	began                         time.Time
	runtime, model, session, warm time.Duration
	address                       string
}

func begin() *phases { return &phases{began: time.Now()} }

func (p *phases) mark(phase *time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*phase = time.Since(p.began)
}

func (p *phases) listening(a net.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.address = a.String()
}

// started ends the last phase, and gives the start as phases one after the
// other, for Server-Timing: until the runtime was loaded, from then until the
// graph was, and until now.
func (p *phases) started() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.warm = time.Since(p.began)
	loaded := min(p.runtime, p.session) // it may be marked a moment after whoever waited for it has gone on
	return fmt.Sprintf("runtime;dur=%g, model;dur=%g, warmup;dur=%g", millis(loaded), millis(p.session-loaded), millis(p.warm-p.session))
}

func (p *phases) log(log *slog.Logger, pkg *model.Package, device string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	log.Info("ready", "address", p.address,
		"model", pkg.Spec.Name, "version", pkg.Spec.Version, "digest", pkg.Digest,
		"device", device, "onnxruntime", onnx.Version(),
		"runtimeLoadedMs", millis(p.runtime), "modelReadMs", millis(p.model), "graphLoadedMs", millis(p.session), "readyMs", millis(p.warm))
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
