package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"aisle.dev/aisle/internal/metrics"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
)

// phases are the moments of a start, as times since it was launched.
type phases struct {
	launched time.Time
	main     time.Duration

	mu                            sync.Mutex // guards what follows: phases run side by side
	runtime, model, session, warm time.Duration
	address                       string
	seconds                       metrics.Histogram
}

// begin is to be called first in main. launched is what the launcher says of
// when it was (AISLE_LAUNCHED); without it the kernel is asked.
func begin(launched string) *phases {
	now := time.Now()
	p := &phases{launched: now}
	if took, err := sinceLaunch(launched, now); err == nil {
		p.launched, p.main = now.Add(-took), took
	}
	return p
}

// longestExec bounds what is believed of a launcher: a timestamp that was
// handed down through a shell is not this process's.
const longestExec = time.Minute

// sinceLaunch is how long it took from exec to now.
func sinceLaunch(launched string, now time.Time) (time.Duration, error) {
	if ns, err := strconv.ParseInt(launched, 10, 64); err == nil {
		if took := now.Sub(time.Unix(0, ns)); took >= 0 && took < longestExec {
			return took, nil
		}
	}
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, err
	}
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	return sinceStart(string(stat), string(uptime))
}

// sinceStart is the age of a process by proc(5)'s stat and uptime, which have
// steps of 10 ms.
func sinceStart(stat, uptime string) (time.Duration, error) {
	name := strings.LastIndexByte(stat, ')') // its end; it may hold anything
	fields, up := strings.Fields(stat[name+1:]), strings.Fields(uptime)
	const startTime = 22 - 3 // fields counts from the third
	if len(fields) <= startTime || len(up) == 0 {
		return 0, fmt.Errorf("unexpected /proc/self/stat %q", stat)
	}
	ticks, err := strconv.ParseInt(fields[startTime], 10, 64)
	if err != nil {
		return 0, err
	}
	now, err := strconv.ParseFloat(up[0], 64)
	if err != nil {
		return 0, err
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 wherever Go runs
	return max(0, time.Duration(now*float64(time.Second))-time.Duration(ticks)*tick), nil
}

// observe makes the start a histogram by phase.
func (p *phases) observe(set *metrics.Set) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seconds = set.Histogram("aisle_classifier_start_seconds", "A start by phase, one after the other; total is from its launch until it was ready.",
		[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}, "phase")
}

func (p *phases) mark(phase *time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*phase = time.Since(p.launched)
}

func (p *phases) listening(a net.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.address = a.String()
}

// started ends the last phase, and gives the start as phases one after the
// other, for Server-Timing: until main began, until the runtime was loaded,
// until the graph was, and until now.
func (p *phases) started() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.warm = time.Since(p.launched)
	loaded := max(p.main, min(p.runtime, p.session)) // it may be marked a moment after whoever waited for it has gone on
	var timing []string
	for _, phase := range []struct {
		name string
		took time.Duration
	}{{"exec", p.main}, {"runtime", loaded - p.main}, {"model", p.session - loaded}, {"warmup", p.warm - p.session}} {
		timing = append(timing, fmt.Sprintf("%s;dur=%g", phase.name, millis(phase.took)))
		p.seconds.Observe(phase.took.Seconds(), phase.name)
	}
	p.seconds.Observe(p.warm.Seconds(), "total")
	return strings.Join(timing, ", ")
}

func (p *phases) log(log *slog.Logger, pkg *model.Package, device string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	log.Info("ready", "address", p.address,
		"model", pkg.Spec.Name, "version", pkg.Spec.Version, "digest", pkg.Digest,
		"device", device, "onnxruntime", onnx.Version(),
		"mainMs", millis(p.main), "runtimeLoadedMs", millis(p.runtime), "modelReadMs", millis(p.model), "graphLoadedMs", millis(p.session), "readyMs", millis(p.warm))
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
