package compose

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"

	"aisle.dev/aisle/internal/category"
)

// A service that never gets ready is asked one request at a time, each of a
// bounded life, and costs no product anything.
func TestGPUNeverReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVariantWorld(t, "preferReady")
		w.gpu.before = starts(24 * time.Hour)
		begin := time.Now()
		for time.Since(begin) < time.Hour {
			if l := w.photoLeg(t); l.LatencyMs != 0 || l.StandIn == "" || l.Outcome != category.Answered {
				t.Fatalf("%+v", l)
			}
			time.Sleep(10 * time.Second)
		}
		if n, most := len(w.gpu.requests()), int(time.Hour/wakeFor)+1; n > most {
			t.Errorf("asked %d times in an hour, want at most %d", n, most)
		}
	})
}

// A pod that dies in the midst of its answer costs the product its tries, and
// is woken anew by the next.
func TestGPUDiesInMidAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVariantWorld(t, "preferReady")
		w.warm(t)
		w.gpu.setBefore(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
			panic(http.ErrAbortHandler)
		})
		l := w.photoLeg(t)
		if is(t, l, category.CPU, category.InsteadOfFailed, category.Answered); !strings.Contains(l.Reason, "photo-gpu cannot be reached") || l.LatencyMs > 1000 {
			t.Errorf("%+v", l)
		}
		w.gpu.setBefore(starts(3 * time.Second))
		if l := w.photoLeg(t); l.Variant != category.CPU || l.LatencyMs != 0 {
			t.Errorf("%+v", l)
		}
	})
}

// A service that was ready and does not answer is waited for a second, once.
func TestGPUHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVariantWorld(t, "preferReady")
		w.warm(t)
		w.gpu.setBefore(starts(time.Hour))
		for _, l := range w.many(t, 100) {
			is(t, l, category.CPU, category.InsteadOfWaking, category.Answered)
			if l.Reason != "photo-gpu has not answered within 1s" || l.LatencyMs != 1000 {
				t.Errorf("%+v", l)
			}
		}
		if l := w.photoLeg(t); l.Variant != category.CPU || l.LatencyMs != 0 || l.Reason != "photo-gpu is waking" {
			t.Errorf("%+v", l)
		}
		synctest.Wait()
		if n := w.open(t); n != 1 {
			t.Errorf("%d requests are left at the service, want 1", n)
		}
	})
}

// open counts the requests that are at the GPU service now.
func (w *variantWorld) open(t *testing.T) int {
	t.Helper()
	n := 0
	for _, s := range w.gpu.requests() {
		if s.context.Err() == nil {
			n++
		}
	}
	return n
}

// A dead GPU service is dialled as seldom as any other, and its breaker is its
// own.
func TestBreakerPerVariant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVariantWorld(t, "never")
		w.stopGPU()
		for range 10 {
			is(t, w.photoLeg(t), category.CPU, category.InsteadOfFailed, category.Answered)
		}
		if n := w.dialled("photo-gpu"); n != tripsAfter {
			t.Errorf("dialled %d times, want %d", n, tripsAfter)
		}
		if !w.legs[1].cpu.breaker.IsClosed() {
			t.Error("the CPU service's breaker is open")
		}
		w.serve("photo-gpu", w.gpu)
		time.Sleep(openFor)
		is(t, w.photoLeg(t), category.GPU, "", category.Answered)
	})
}

func TestAVariantPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVariantWorld(t, "never")
		w.legs[1].service.client.Transport = panicking{w.transport, "photo-gpu."}
		l := w.photoLeg(t)
		if is(t, l, category.CPU, category.InsteadOfFailed, category.Answered); !strings.Contains(l.Reason, "internal error") {
			t.Errorf("%+v", l)
		}
	})
}

// A request that wakes a service goes on when its sender has gone, and ends
// with the composer.
func TestCloseEndsTheWaking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVariantWorld(t, "never")
		w.gpu.before = starts(time.Hour)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("gone"))
		defer cancel()
		_, _ = w.Compose(ctx, both())
		synctest.Wait()
		asked := w.gpu.requests()
		if len(asked) != 1 || asked[0].context.Err() != nil {
			t.Fatalf("%d requests, the first of which has ended: %v", len(asked), asked[0].context.Err())
		}
		start := time.Now()
		w.Close()
		synctest.Wait()
		if asked[0].context.Err() == nil || time.Since(start) != 0 {
			t.Errorf("the request goes on for %s", time.Since(start))
		}
	})
}

// Where there is no room for the product beyond its own time, its request ends
// with it, and the next product's takes its place.
func TestNoRoomForAWakingProduct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVariantWorld(t, "{waitFor: 1s}")
		w.kept = semaphore.NewWeighted(1)
		w.gpu.before = starts(time.Hour)
		for i := range 3 {
			is(t, w.photoLeg(t), category.CPU, category.InsteadOfWaking, category.Answered)
			synctest.Wait()
			asked := w.gpu.requests()
			if len(asked) != i+1 || asked[i].context.Err() == nil {
				t.Errorf("%d requests, the last goes on: %v", len(asked), asked[i].context.Err() == nil)
			}
		}
		if !w.kept.TryAcquire(1) {
			t.Error("something is held")
		}
		if !w.legs[1].breaker.IsClosed() {
			t.Error("products that gave up opened the breaker")
		}
	})
}
