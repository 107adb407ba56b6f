package engine

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/activator/engine/pod"
)

func TestTellPhases(t *testing.T) {
	arrived := time.Now()
	at := func(ms int) time.Time { return arrived.Add(time.Duration(ms) * time.Millisecond) }
	own := []pod.Phase{{Name: "runtime", Took: 11 * time.Millisecond}, {Name: "made-up", Took: time.Second}, {Name: "warmup", Took: 2 * time.Millisecond}}
	for _, test := range []struct {
		name string
		at   pod.Phases
		want []string
	}{
		{"of a request that started the pod", pod.Phases{Asked: at(1), Launched: at(3), Listening: at(20), Ready: at(30), Own: own},
			[]string{"wake;dur=31.0", "decided;dur=1.0", "launched;dur=2.0", "listening;dur=17.0", "runtime;dur=11.0", "warmup;dur=2.0", "ready;dur=10.0"}},
		{"of one that came later", pod.Phases{Asked: at(-5), Launched: at(-4), Listening: at(2), Ready: at(30)},
			[]string{"wake;dur=31.0", "decided;dur=0.0", "launched;dur=1.0", "listening;dur=6.0", "ready;dur=28.0"}},
		{"of a port that no probe saw closed", pod.Phases{Asked: at(0), Launched: at(1), Ready: at(30)},
			[]string{"wake;dur=31.0", "decided;dur=0.0", "launched;dur=1.0", "listening;dur=29.0", "ready;dur=0.0"}},
		{"of a pod that nobody watched", pod.Phases{}, []string{"wake;dur=31.0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := http.Header{}
			tellPhases(h, arrived, at(31), test.at)
			if d := cmp.Diff(test.want, h["Server-Timing"]); d != "" {
				t.Error(d)
			}
		})
	}
}
