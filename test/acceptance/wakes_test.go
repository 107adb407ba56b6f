package acceptance

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// 200 wakes from zero on a machine whose cores are all taken many times over:
// each is answered, none only by its service's timeout. It takes a minute of
// all cores, so it is asked for: AISLE_STRESS=1.
func TestWakesUnderLoad(t *testing.T) {
	if os.Getenv("AISLE_STRESS") == "" {
		t.Skip("takes all cores for a minute; AISLE_STRESS=1 runs it")
	}
	engineOnly(t, shared, "it loads this machine")
	const services, rounds = 40, 5
	type object = map[string]any
	e := newEngine(t, "", podsDir)
	k, c := e.objects(), call(t, e)
	var all []object
	for i := range services {
		all = append(all, object{
			"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": object{"name": fmt.Sprintf("w%d", i)},
			"spec": object{"template": object{
				"metadata": object{"annotations": object{"autoscaling.knative.dev/window": "6s"}},
				"spec":     object{"timeoutSeconds": 60, "containers": []any{object{"image": k.image, "readinessProbe": object{"httpGet": object{"path": "/readyz"}}}}},
			}},
		})
	}
	if err := k.apply(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	var burning, waking sync.WaitGroup
	for range 15 * runtime.NumCPU() {
		burning.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
				}
			}
		})
	}
	var mu sync.Mutex
	var took []time.Duration
	for i := range services {
		waking.Go(func() {
			name := fmt.Sprintf("w%d", i)
			for range rounds {
				began := time.Now()
				if a := c.do(t.Context(), http.MethodGet, name, "/sleep?ms=0", ""); a.err != nil || a.status != http.StatusOK {
					t.Errorf("%s after %v: %v %d %s", name, time.Since(began), a.err, a.status, a.body)
					return
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
				awaitNoPods(t, e, name)
			}
		})
	}
	waking.Wait()
	close(over)
	burning.Wait()
	slices.Sort(took)
	if len(took) == 0 {
		t.Fatal("nothing was answered")
	}
	t.Logf("%d wakes: median %v, worst %v", len(took), took[len(took)/2], took[len(took)-1])
	if worst := took[len(took)-1]; worst > 45*time.Second {
		t.Errorf("the slowest wake took %v", worst)
	}
}
