package compose

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aisle.dev/aisle/internal/metrics"
)

// volume is a ConfigMap's as kubelet writes it: each file a link through ..data,
// which is a link to the folder of one version and is swapped.
type volume struct {
	t       *testing.T
	dir     string
	version int
}

func newVolume(t *testing.T, composition string) *volume {
	v := &volume{t: t, dir: t.TempDir()}
	v.swap(composition)
	for _, name := range []string{"composition.yaml", "taxonomy.csv"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(v.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

func (v *volume) swap(composition string) {
	v.t.Helper()
	v.version++
	at := fmt.Sprintf("..version-%d", v.version)
	if err := os.Mkdir(filepath.Join(v.dir, at), 0o700); err != nil {
		v.t.Fatal(err)
	}
	for name, text := range map[string]string{"composition.yaml": composition, "taxonomy.csv": smallTaxonomy} {
		if err := os.WriteFile(filepath.Join(v.dir, at, name), []byte(text), 0o600); err != nil {
			v.t.Fatal(err)
		}
	}
	next := filepath.Join(v.dir, "..data_tmp")
	if err := os.Symlink(at, next); err != nil {
		v.t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(v.dir, "..data")); err != nil {
		v.t.Fatal(err)
	}
}

// reloadingWorld is a world whose composition is in a volume.
type reloadingWorld struct {
	*world
	*volume
	*Reloading
	metrics *metrics.Set
	log     bytes.Buffer
}

func newReloadingWorld(t *testing.T, text string) *reloadingWorld {
	w := &reloadingWorld{world: newWorld(t, twoLegs), volume: newVolume(t, text), metrics: metrics.New()}
	var err error
	w.Reloading, err = Open(filepath.Join(w.dir, "composition.yaml"), Options{Transport: w.transport, Metrics: w.metrics, Logger: slog.New(slog.NewTextHandler(&w.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Reloading.Close)
	return w
}

// tells checks lines of the metrics and what GET / tells.
func (w *reloadingWorld) tells(t *testing.T, about string, lines ...string) {
	t.Helper()
	rec := httptest.NewRecorder()
	w.metrics.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, line := range lines {
		if !strings.Contains(rec.Body.String(), line+"\n") {
			t.Errorf("the metrics have no line %q", line)
		}
	}
	rec = httptest.NewRecorder()
	w.Reloading.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", nil))
	if !strings.Contains(rec.Body.String(), about) {
		t.Errorf("GET / says %s, not %q", rec.Body, about)
	}
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newReloadingWorld(t, twoLegs)
		before := w.Composition().Digest
		for range tripsAfter {
			w.current.Load().legs[1].breaker.RecordFailure()
		}
		title := w.current.Load().legs[0].service
		post(w.Reloading, "/category/predict", shirt)

		// A leg less, and one more.
		changed := strings.Replace(twoLegs, "{name: photo, service: photo, weight: 0.8}", "{name: second, service: title}", 1)
		w.swap(changed)
		if post(w.Reloading, "/category/predict", shirt); w.Composition().Digest != before {
			t.Error("the file was looked at twice in a second")
		}
		time.Sleep(reloadEvery)
		if got := post(w.Reloading, "/category/predict", shirt).Body.String(); !strings.Contains(got, `"name":"second"`) || strings.Contains(got, `"name":"photo"`) {
			t.Errorf("the new composition does not answer: %s", got)
		}
		if now := w.current.Load().legs[0].service; now.breaker != title.breaker || now.reads.known() == nil {
			t.Error("what was known of a service that is in both is forgotten")
		}
		if n := w.dialled("title"); n != 2 { // the second leg's at the same time
			t.Errorf("title was dialled %d times", n)
		}
		w.tells(t, w.Composition().Digest, `aisle_composition_reloads_total{result="taken"} 1`, "aisle_composition_file_differs 0",
			`aisle_composer_breaker_state{leg="second",variant=""} 0`)
		w.swap(twoLegs)
		time.Sleep(reloadEvery)
		w.tells(t, before, `aisle_composition_reloads_total{result="taken"} 1`)
		if got := strings.Count(w.log.String(), "taken over"); got != 2 {
			t.Errorf("the log says %d times that a composition was taken over:\n%s", got, w.log.String())
		}
	})
}

func TestABrokenVersionLeavesTheLastOneAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newReloadingWorld(t, twoLegs)
		before := w.Composition().Digest
		w.swap(strings.Replace(twoLegs, "weight: 0.8", "wieght: 0.8", 1))
		for range 3 {
			time.Sleep(reloadEvery)
			if rec := post(w.Reloading, "/category/predict", shirt); rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), before) {
				t.Errorf("%d %s", rec.Code, rec.Body)
			}
		}
		w.tells(t, "line 8, column 37: spec.legs[1].wieght", `aisle_composition_reloads_total{result="refused"} 1`, "aisle_composition_file_differs 1")
		if got := strings.Count(w.log.String(), "is broken"); got != 1 {
			t.Errorf("the log says %d times that the file is broken:\n%s", got, w.log.String())
		}
		// A taxonomy that is gone is the same, and so is a file that is gone.
		if err := os.Remove(filepath.Join(w.dir, "..data", "taxonomy.csv")); err != nil {
			t.Fatal(err)
		}
		w.swap(twoLegs)
		time.Sleep(reloadEvery)
		w.tells(t, before)
		w.tells(t, before, "aisle_composition_file_differs 0", `aisle_composition_reloads_total{result="refused"} 1`)
		if err := os.Remove(filepath.Join(w.dir, "..data")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(reloadEvery)
		w.tells(t, "no such file")
		w.tells(t, before, "aisle_composition_file_differs 1", `aisle_composition_reloads_total{result="refused"} 2`)
	})
}

// A product that is on its way when the composition changes is answered by the
// one that it came under.
func TestAProductKeepsItsComposition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newReloadingWorld(t, twoLegs)
		before := w.Composition().Digest
		release := make(chan struct{})
		w.photo.setBefore(func(http.ResponseWriter, *http.Request, int) bool { <-release; return false })
		answer := make(chan string, 1)
		go func() { answer <- post(w.Reloading, "/category/predict", shirt).Body.String() }()
		synctest.Wait()
		w.swap(strings.Replace(twoLegs, "    - {name: photo, service: photo, weight: 0.8}\n", "", 1))
		time.Sleep(reloadEvery)
		if got := post(w.Reloading, "/category/predict", shirt).Body.String(); strings.Contains(got, before) {
			t.Errorf("the new composition does not answer: %s", got)
		}
		close(release)
		if got := <-answer; !strings.Contains(got, before) || !strings.Contains(got, `"name":"photo"`) {
			t.Errorf("the product's composition changed under it: %s", got)
		}
	})
}
