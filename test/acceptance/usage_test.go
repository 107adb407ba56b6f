package acceptance

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"aisle.dev/aisle/activator/engine/usage"
	"aisle.dev/aisle/internal/client"
)

// census counts an engine's pods by what the kernel says, and by nothing that
// the engine does: it looks again and again which of the engine's children
// there are.
type census struct {
	mu   sync.Mutex
	pods map[int]*counted // by process id
	last time.Time        // when it looked last
}

// counted is a pod's life: it began between absent and first, and ended between
// last and gone.
type counted struct {
	service                   string
	absent, first, last, gone time.Time
}

// countPods counts the children of a process until stop is called.
func countPods(t *testing.T, parent int) *census {
	c := &census{pods: map[int]*counted{}, last: time.Now()}
	done := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		look := time.NewTicker(10 * time.Millisecond)
		defer look.Stop()
		for {
			c.look(parent)
			select {
			case <-done:
				return
			case <-look.C:
			}
		}
	})
	t.Cleanup(func() { close(done); looking.Wait() })
	return c
}

func (c *census) look(parent int) {
	begun := time.Now()
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	alive := map[int]bool{}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has gone meanwhile
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // state, ppid, ...
		if len(fields) < 2 || fields[0] == "Z" || fields[1] != strconv.Itoa(parent) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			alive[pid] = true
		}
	}
	ended := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for pid := range alive {
		if c.pods[pid] == nil {
			c.pods[pid] = &counted{absent: c.last, first: ended}
		}
		p := c.pods[pid]
		p.last = begun
		if p.service == "" { // before exec it has the engine's environment
			env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)) // it may have gone
			for v := range strings.SplitSeq(string(env), "\x00") {
				if name, ok := strings.CutPrefix(v, "K_SERVICE="); ok {
					p.service = name
				}
			}
		}
	}
	for pid, p := range c.pods {
		if !alive[pid] && p.gone.IsZero() {
			p.gone = ended
		}
	}
	c.last = begun
}

// of is how many pods a service has had, and between which bounds the time lies
// that they ran. A pod that still runs counts until now.
func (c *census) of(service string) (pods int, least, most time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pods {
		if p.service != service {
			continue
		}
		pods++
		least += max(0, p.last.Sub(p.first))
		if p.gone.IsZero() {
			most += time.Since(p.absent)
		} else {
			most += p.gone.Sub(p.absent)
		}
	}
	return pods, least, most
}

// used is what the engine says that a service used, all days together.
func used(t *testing.T, e *engineProcess, service string) client.UsageRow {
	t.Helper()
	now := time.Now().UTC()
	u, err := e.Usage(t.Context(), now.AddDate(0, 0, -1), now.AddDate(0, 0, 1), "default/"+service) // it may be midnight
	if err != nil || len(u.Damaged) > 0 {
		t.Fatal(u.Damaged, err)
	}
	var sum client.UsageRow
	for _, r := range u.Rows {
		sum.PodSeconds += r.PodSeconds
		sum.GPUSeconds += r.GPUSeconds
		sum.DeclaredSeconds += r.DeclaredSeconds
		sum.DeclaredGPUSeconds += r.DeclaredGPUSeconds
		sum.Peak = max(sum.Peak, r.Peak)
	}
	return sum
}

// late is by how much the engine may notice a pod's beginning or end later than
// the kernel does, on a machine that does much else.
const late = 500 * time.Millisecond

// What the engine says that its services used is what their pods ran, counted
// by somebody else; and what an engine had used that was killed is missing no
// more than a checkpoint.
func TestUsage(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "in a cluster the controller counts, from the pods that there are")
	e := newEngine(t, "", gpusDir, "GPU-7")
	seen := countPods(t, e.cmd.Process.Pid)
	c := call(t, e)
	services := []string{"first", "second", "plain"}
	for _, service := range services { // each has an initial scale of one
		awaitNoPods(t, e, service)
		c.get(t, service, "/env").want(t, http.StatusOK)
	}
	for _, service := range services {
		awaitNoPods(t, e, service)
	}
	for _, service := range services {
		pods, least, most := seen.of(service)
		margin := time.Duration(pods) * late
		got := used(t, e, service)
		t.Logf("%s: %d pods ran for %s to %s; the engine says %.3fs, GPUs %.3fs", service, pods, least, most, got.PodSeconds, got.GPUSeconds)
		if s := time.Duration(got.PodSeconds * 1e9); pods < 2 || s < least-margin || s > most+margin {
			t.Errorf("%s: %d pods ran for %s to %s; the engine says %s", service, pods, least, most, s)
		}
		if got.Peak != 1 || got.DeclaredSeconds < got.PodSeconds {
			t.Errorf("%s: %+v", service, got)
		}
		if service == "plain" {
			if got.GPUSeconds != 0 || got.DeclaredGPUSeconds != 0 {
				t.Errorf("it has no GPU: %+v", got)
			}
		} else if got.GPUSeconds < got.PodSeconds || got.GPUSeconds > got.PodSeconds+margin.Seconds() || got.DeclaredGPUSeconds != got.DeclaredSeconds {
			t.Errorf("%s: a GPU is held for as long as its pod runs: %+v", service, got)
		}
	}
	if got := used(t, e, "greedy"); got.PodSeconds != 0 || got.GPUSeconds != 0 || got.DeclaredGPUSeconds != 2*got.DeclaredSeconds || got.DeclaredSeconds == 0 {
		t.Errorf("a pod that waits for GPUs uses none: %+v", got)
	}

	before := used(t, e, "plain").PodSeconds
	held := c.begin(t.Context(), "plain", "/sleep?ms=59000")
	file := filepath.Join(e.version.DataDir, "usage")
	await(t, "the running pod's time to be on the disk", func() string {
		read, err := usage.Open(file, usage.System(), slog.New(slog.DiscardHandler)) // of its own: it sees what is on the disk alone
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for d, err := range read.Read("0000-00-00", "9999-99-99") {
			if err != nil {
				t.Fatal(err)
			}
			sum += d.Services["default/plain"].Pods.Seconds()
		}
		if sum < before+1 {
			return fmt.Sprintf("%.3fs, after %.3fs", sum, before)
		}
		return ""
	})
	e.kill(t)
	<-held
	pids := map[int]bool{}
	seen.mu.Lock()
	for pid := range seen.pods {
		pids[pid] = true
	}
	seen.mu.Unlock()
	for pid := range pids {
		awaitGone(t, pid)
	}
	again := newEngine(t, e.version.DataDir, gpusDir, "GPU-7")
	pods, least, most := seen.of("plain")
	margin := time.Duration(pods) * late
	kept := used(t, again, "plain")
	s := time.Duration(kept.PodSeconds * 1e9)
	t.Logf("plain: over the kill %d pods ran for %s to %s; the next engine says %s", pods, least, most, s)
	if s < least-margin-usage.Every || s > most+margin || s < time.Duration((before+1)*1e9) {
		t.Errorf("over the kill %d pods ran for %s to %s; the next engine says %s", pods, least, most, s)
	}
}
