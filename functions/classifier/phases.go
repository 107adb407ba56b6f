package main

import (
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
	mu                      sync.Mutex // guards what follows: phases run side by side
	began                   time.Time
	runtime, model, session time.Duration
	address                 string
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

func (p *phases) log(log *slog.Logger, pkg *model.Package, device string) {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	p.mu.Lock()
	defer p.mu.Unlock()
	log.Info("ready", "address", p.address,
		"model", pkg.Spec.Name, "version", pkg.Spec.Version, "digest", pkg.Digest,
		"device", device, "onnxruntime", onnx.Version(),
		"runtimeLoadedMs", ms(p.runtime), "modelReadMs", ms(p.model), "graphLoadedMs", ms(p.session), "readyMs", ms(time.Since(p.began)))
}
