package pod

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	errSick = errors.New("sick")
	errStop = errors.New("told to stop")
)

// script is a pod whose probes find, from each moment on, what is written
// there: "ok", "sick" or "closed".
type script map[time.Duration]string

func (s script) at(d time.Duration) error {
	var last time.Duration = -1
	for at := range s {
		if at <= d && at > last {
			last = at
		}
	}
	switch {
	case last < 0 || s[last] == "closed":
		return fmt.Errorf("%w on x", errNotListening)
	case s[last] == "sick":
		return errSick
	}
	return nil
}

func TestWatch(t *testing.T) {
	const s = time.Second
	always := script{0: "ok"}
	for _, test := range []struct {
		name                         string
		probes                       Probes
		startup, readiness, liveness script
		until                        time.Duration
		want                         []string // when readiness came and went
		tries                        int      // of readiness, at most; 0: not looked at
		err                          string
	}{
		{
			name: "ready as soon as it listens, though the period is long", probes: Probes{Readiness: Probe{Period: 10 * s}},
			readiness: script{0: "closed", 300 * time.Millisecond: "ok"}, until: 25 * s,
			want: []string{"0.3s ready"}, tries: 120, err: "told to stop",
		},
		{
			name: "a period lies between two attempts", probes: Probes{Readiness: Probe{Period: 2 * s}},
			readiness: script{0: "sick", 3 * s: "ok"}, until: 9 * s, want: []string{"4s ready"}, tries: 5, err: "told to stop",
		},
		{
			name: "without a period: soon", probes: Probes{},
			readiness: script{0: "sick", 3 * s: "ok"}, until: 24 * s, want: []string{"3s ready"}, err: "told to stop",
		},
		{
			name: "an initial delay", probes: Probes{Readiness: Probe{Delay: 5 * s, Period: s}},
			readiness: always, until: 8500 * time.Millisecond, want: []string{"5s ready"}, tries: 4, err: "told to stop",
		},
		{
			name: "passes in a row", probes: Probes{Readiness: Probe{Period: s, Success: 3}},
			readiness: script{0: "ok", 1500 * time.Millisecond: "sick", 2500 * time.Millisecond: "ok"}, until: 9 * s,
			want: []string{"5s ready"}, err: "told to stop",
		},
		{
			name: "lost and found again", probes: Probes{Readiness: Probe{Period: s, Failure: 2}},
			readiness: script{0: "ok", 3500 * time.Millisecond: "sick", 6500 * time.Millisecond: "ok", 8500 * time.Millisecond: "sick", 9500 * time.Millisecond: "ok"}, until: 12 * s,
			want: []string{"0s ready", "5s failed its readiness probe 2 times in a row: sick", "7s ready"}, err: "told to stop",
		},
		{
			name: "lost without a declared period: three times, ten seconds apart", probes: Probes{},
			readiness: script{0: "ok", 5 * s: "sick", 31 * s: "ok"}, until: 40 * s,
			want: []string{"0s ready", "30s failed its readiness probe 3 times in a row: sick", "31s ready"}, err: "told to stop",
		},
		{
			name: "never ready", probes: Probes{}, readiness: script{0: "closed", s: "sick"}, until: 3 * s,
			err: "told to stop; the last readiness probe: sick",
		},
		{
			name: "startup holds the others back", probes: Probes{Startup: &Probe{Period: 2 * s, Failure: 5}, Liveness: &Probe{Period: s, Failure: 1}},
			startup: script{0: "sick", 5 * s: "ok"}, readiness: always, liveness: script{0: "sick", 6 * s: "ok"}, until: 9 * s,
			want: []string{"6s ready"}, err: "told to stop",
		},
		{
			name: "startup fails", probes: Probes{Startup: &Probe{Period: 2 * s, Failure: 3}, Readiness: Probe{}},
			startup: script{0: "sick"}, readiness: always, until: time.Minute,
			err: "failed its startup probe 3 times in a row: sick; the last startup probe: sick",
		},
		{
			name: "startup of a port that stays closed", probes: Probes{Startup: &Probe{Period: s, Failure: 2}},
			startup: script{0: "closed"}, readiness: always, until: time.Minute, err: "failed its startup probe 2 times in a row: nothing listens",
		},
		{
			name: "liveness fails", probes: Probes{Liveness: &Probe{Delay: 3 * s}},
			readiness: always, liveness: script{0: "ok", 4 * s: "sick"}, until: time.Hour,
			want: []string{"0s ready"}, err: "failed its liveness probe 3 times in a row: sick",
		},
		{
			name: "liveness that fails twice", probes: Probes{Liveness: &Probe{}},
			readiness: always, liveness: script{0: "sick", 15 * s: "ok"}, until: time.Minute,
			want: []string{"0s ready"}, err: "told to stop",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				ctx, cancel := context.WithCancelCause(t.Context())
				stop := time.AfterFunc(test.until, func() { cancel(errStop) })
				defer stop.Stop()
				tries := 0
				try := func(_ context.Context, p Probe) (answer, error) {
					plan := test.readiness
					switch {
					case test.probes.Startup != nil && p.Path == "startup":
						plan = test.startup
					case p.Path == "liveness":
						plan = test.liveness
					default:
						tries++
					}
					return answer{}, plan.at(time.Since(begun))
				}
				if test.probes.Startup != nil {
					test.probes.Startup.Path = "startup"
				}
				if test.probes.Liveness != nil {
					test.probes.Liveness.Path = "liveness"
				}
				var got []string
				err := test.probes.watch(ctx, begun, try, func(_ answer, why error) {
					what := "ready"
					if why != nil {
						what = why.Error()
					}
					got = append(got, fmt.Sprintf("%gs %s", time.Since(begun).Round(100*time.Millisecond).Seconds(), what))
				})
				if !slices.Equal(got, test.want) {
					t.Errorf("%q, want %q", got, test.want)
				}
				if err == nil || !strings.HasPrefix(err.Error(), test.err) {
					t.Errorf("%v, want %q", err, test.err)
				}
				if test.tries > 0 && tries > test.tries {
					t.Errorf("%d attempts, want at most %d", tries, test.tries)
				}
			})
		})
	}
}

// A probe that hangs until its time is up is a failure like any other, and one
// that is cut short by the end is none.
func TestWatchOfAHangingProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := time.AfterFunc(2500*time.Millisecond, func() { cancel(errStop) })
		defer stop.Stop()
		try := func(ctx context.Context, p Probe) (answer, error) {
			select {
			case <-ctx.Done():
				return answer{}, context.Cause(ctx)
			case <-time.After(time.Second):
				return answer{}, errSick
			}
		}
		err := Probes{Readiness: Probe{Period: time.Second}}.watch(ctx, time.Now(), try, func(answer, error) { t.Error("ready") })
		if !errors.Is(err, errStop) || !errors.Is(err, errSick) {
			t.Errorf("%v: want the cause, and what the last whole probe found", err)
		}
	})
}
