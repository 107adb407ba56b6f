package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/scaling"
)

// clocked is a place by whose time schedules go: an engine of the test's own,
// whose clock the test moves, or a cluster, whose time passes.
type clocked struct {
	place
	t     *testing.T
	ahead time.Duration // of the engine's clock
}

// newClocked gives a place where it is soon to be a full minute, the smallest
// step of a window.
func newClocked(t *testing.T) *clocked {
	t.Helper()
	p := &clocked{place: shared, t: t}
	if shared.engine() != nil {
		p.start(newDataDir(t), time.Date(2026, 11, 23, 7, 59, 0, 0, time.UTC))
	}
	return p
}

// start starts an engine at a time, in the place of the one before.
func (p *clocked) start(dataDir string, at time.Time) {
	p.t.Helper()
	p.ahead = time.Until(at)
	p.place = newEngineWith(p.t, engineConfig{Manifests: servicesDir, Root: shared.root, DataDir: dataDir, Address: "127.0.0.1:0", Clock: at})
}

func (p *clocked) now() time.Time { return time.Now().Add(p.ahead).UTC() }

// until lets it be a time.
func (p *clocked) until(when time.Time) {
	p.t.Helper()
	e := p.engine()
	if e == nil {
		select {
		case <-time.After(time.Until(when)):
		case <-p.t.Context().Done():
		}
		return
	}
	p.ahead = time.Until(when)
	if _, err := fmt.Fprintln(e.hold, when.Format(time.RFC3339Nano)); err != nil {
		p.t.Fatal(err)
	}
}

// service deploys a service of the test's own.
func (p *clocked) service(name string, annotations, env map[string]string) {
	p.t.Helper()
	if err := p.objects().scaled(p.t.Context(), name, annotations, env); err != nil {
		p.t.Fatal(err)
	}
	await(p.t, name+" to be ready", func() string {
		if st := p.objects().service(p.t, name).Status; st.LatestReadyRevisionName == "" {
			return fmt.Sprintf("%+v", st)
		}
		return ""
	})
}

// schedule applies a ScalingSchedule for the length of the test.
func (p *clocked) schedule(name string, spec scaling.Spec) {
	p.t.Helper()
	text, err := json.Marshal(spec)
	var plain map[string]any
	if err == nil {
		err = json.Unmarshal(text, &plain)
	}
	if err == nil {
		err = p.objects().apply(p.t.Context(), []map[string]any{{"apiVersion": scaling.GroupVersion.String(), "kind": scaling.Kind,
			"metadata": map[string]any{"name": name}, "spec": plain}})
	}
	if err != nil {
		p.t.Fatal(err)
	}
	if p.engine() == nil {
		p.t.Cleanup(func() {
			if err := p.objects().remove(context.Background(), scaling.Kind, name, ""); err != nil {
				p.t.Error(err)
			}
		})
	}
}

// awaitStatus waits for a schedule's status to be as it is met.
func (p *clocked) awaitStatus(name, what string, met func(scaling.Status) bool) (s scaling.Status) {
	p.t.Helper()
	path, err := resource(scaling.Kind, p.objects().namespace, name)
	if err != nil {
		p.t.Fatal(err)
	}
	await(p.t, "the schedule "+name+" to be "+what, func() string {
		var o scaling.ScalingSchedule
		if err := p.objects().ask(p.t.Context(), http.MethodGet, path, "", nil, &o); err != nil {
			return err.Error()
		}
		if s = o.Status; !met(s) {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
	return s
}

func floored(n int32) func(scaling.Status) bool {
	return func(s scaling.Status) bool {
		return s.Floor != nil && *s.Floor == n && meta.IsStatusConditionTrue(s.Conditions, scaling.Ready)
	}
}

// window is one from a minute to another of a day.
func window(from, to time.Time, hold scaling.Hold) scaling.Window {
	return scaling.Window{Name: "test", Start: from.Format("15:04"), End: to.Format("15:04"), Hold: hold}
}

func floor(n int32) scaling.Hold { return scaling.Hold{Floor: &n} }

// At a window's beginning its floor is there, and at its end Knative's rules
// take the pods down.
func TestScheduleFloor(t *testing.T) {
	t.Parallel()
	p := newClocked(t)
	p.service("sc-floor", nil, nil)
	awaitNoPods(t, p, "sc-floor")
	begins := p.now().Truncate(time.Minute).Add(time.Minute)
	ends := begins.Add(time.Minute)
	p.schedule("sc-floor", scaling.Spec{Service: "sc-floor", Windows: []scaling.Window{window(begins, ends, floor(2))}})
	before := p.awaitStatus("sc-floor", "looked at", func(s scaling.Status) bool { return s.Next != nil })
	if !before.Next.Time.Equal(begins) && !before.Next.Time.Equal(ends) { // a cluster may be slow
		t.Errorf("next is %v, want %v", before.Next, begins)
	}
	p.until(begins)
	awaitReady(t, p, "sc-floor", 2)
	s := p.awaitStatus("sc-floor", "in its window", floored(2))
	if s.Window != "test" || s.Revision != "sc-floor-00001" {
		t.Errorf("status %+v", s)
	}
	p.until(ends)
	p.awaitStatus("sc-floor", "out of its window", floored(0))
	awaitNoPods(t, p, "sc-floor")
	call(t, p).get(t, "sc-floor", "/sleep?ms=0") // it wakes as ever
}

// When a cap begins, surplus pods go and what they are answering is answered.
func TestScheduleCap(t *testing.T) {
	t.Parallel()
	p := newClocked(t)
	p.service("sc-cap", map[string]string{"autoscaling.knative.dev/target": "1", "autoscaling.knative.dev/target-utilization-percentage": "100"}, nil)
	await(t, "sc-cap to answer", func() string { // a cluster's ingress learns of it later
		if a := call(t, p).do(t.Context(), http.MethodGet, "sc-cap", "/sleep?ms=0", ""); a.err != nil || a.status != http.StatusOK {
			return fmt.Sprintf("%+v", a)
		}
		return ""
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	loaded := make(chan []string, 1)
	go func() {
		_, bad := load(ctx, call(t, p), "sc-cap", "/sleep?ms=300", 3)
		loaded <- bad
	}()
	awaitReady(t, p, "sc-cap", 3)
	p.schedule("sc-cap", scaling.Spec{Service: "sc-cap", Windows: []scaling.Window{{Hold: scaling.Hold{Cap: new(int32(1))}}}})
	await(t, "sc-cap to be one pod", func() string {
		live := 0
		for _, pod := range pods(t, p, "sc-cap") {
			if pod.Phase != "Draining" {
				live++
			}
		}
		if live != 1 {
			return fmt.Sprintf("%d pods", live)
		}
		return ""
	})
	stop()
	if bad := <-loaded; len(bad) > 0 {
		t.Errorf("failed while the cap began: %q", bad)
	}
}

// What ends at a time ends then, and says so.
func TestScheduleExpiry(t *testing.T) {
	t.Parallel()
	p := newClocked(t)
	p.service("sc-expiry", nil, nil)
	awaitNoPods(t, p, "sc-expiry")
	until := p.now().Add(30 * time.Second).Truncate(time.Second)
	p.schedule("sc-expiry", scaling.Spec{Service: "sc-expiry", Windows: []scaling.Window{{Hold: floor(1)}}, Until: new(metav1.NewTime(until))})
	awaitReady(t, p, "sc-expiry", 1)
	p.until(until)
	p.awaitStatus("sc-expiry", "expired", func(s scaling.Status) bool {
		return meta.IsStatusConditionTrue(s.Conditions, scaling.Expired) && floored(0)(s)
	})
	awaitNoPods(t, p, "sc-expiry")
}

// Pods that take their time are ready when the window begins.
func TestScheduleReadyBy(t *testing.T) {
	t.Parallel()
	p := newClocked(t)
	p.service("sc-ready", nil, map[string]string{"START_MS": "1000"})
	awaitNoPods(t, p, "sc-ready")
	begins := p.now().Truncate(time.Minute).Add(2 * time.Minute)
	p.schedule("sc-ready", scaling.Spec{
		Service: "sc-ready", ReadyBy: true, LeadTime: &metav1.Duration{Duration: 20 * time.Second},
		Windows: []scaling.Window{window(begins, begins.Add(2*time.Minute), floor(2))},
	})
	s := p.awaitStatus("sc-ready", "looked at", func(s scaling.Status) bool { return s.Lead != nil && s.Next != nil })
	if s.Lead.Source != "learned" && p.engine() != nil { // its first revision's proof was a start
		t.Errorf("lead %+v", s.Lead)
	}
	p.until(begins.Add(-s.Lead.Time.Duration))
	awaitReady(t, p, "sc-ready", 2)
	if now := p.now(); !now.Before(begins) {
		t.Errorf("its pods were ready %v late, with a lead time of %v", now.Sub(begins), s.Lead.Time.Duration)
	}
	p.awaitStatus("sc-ready", "in its window early", floored(2))
}

// A closed service takes no request and has no pod, and what comes as an event
// waits in the store, over the death of the engine too.
func TestScheduleClosed(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "in a cluster nothing enforces it but the composer, whose own tests have it")
	p := newClocked(t)
	p.service("sc-closed", map[string]string{"autoscaling.knative.dev/min-scale": "1"}, nil)
	for _, o := range []string{
		`{"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": "sc"}}`,
		`{"apiVersion": "eventing.knative.dev/v1", "kind": "Trigger", "metadata": {"name": "sc"}, "spec": {"broker": "sc", "delivery": {"retry": 0},
			"subscriber": {"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "sc-closed"}, "uri": "/events?by=sc"}}}`,
	} {
		var plain map[string]any
		err := json.Unmarshal([]byte(o), &plain)
		if err == nil {
			err = p.objects().apply(t.Context(), []map[string]any{plain})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	awaitReady(t, p, "sc-closed", 1)
	opens := p.now().Truncate(time.Minute).Add(2 * time.Minute)
	long := call(t, p).begin(t.Context(), "sc-closed", "/sleep?ms=3000")
	await(t, "a request to be in the service", func() string {
		if r := revision(t, p, "sc-closed"); r.Concurrency < 1 {
			return fmt.Sprintf("%+v", r)
		}
		return ""
	})
	p.schedule("sc-closed", scaling.Spec{Service: "sc-closed", Windows: []scaling.Window{window(opens.Add(-time.Hour), opens, scaling.Hold{Closed: true})}})
	p.refused("sc-closed", opens)
	(<-long).want(t, http.StatusOK) // it had begun before
	awaitNoPods(t, p, "sc-closed")

	id := 0
	publish := func() {
		t.Helper()
		id++
		header, body, err := event.Encode(newEvent(t, "sc", strconv.Itoa(id), 0), false)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://broker-ingress.knative-eventing.localhost/default/sc", strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		call(t, p).send(req).want(t, http.StatusAccepted)
	}
	held := func(n int) {
		t.Helper()
		await(t, fmt.Sprintf("%d events to be held", n), func() string {
			all, err := p.engine().Pending(t.Context())
			if err != nil || len(all) != 1 || all[0].Events != n || !strings.Contains(all[0].Reason, "closed") || !all[0].Until.Equal(opens) {
				return fmt.Sprintf("%+v, %v", all, err)
			}
			return ""
		})
	}
	publish()
	held(1)
	p.engine().kill(t)
	p.start(p.engine().version.DataDir, p.now())
	p.refused("sc-closed", opens)
	publish()
	held(2)
	if own := pods(t, p, "sc-closed"); len(own) > 0 {
		t.Errorf("pods while it is closed: %+v", own)
	}
	p.until(opens)
	await(t, "the events to come", func() string {
		a := call(t, p).do(t.Context(), http.MethodGet, "sc-closed", "/events", "")
		for i := range id {
			if !strings.Contains(a.body, fmt.Sprintf(`"%d"`, i+1)) {
				return fmt.Sprintf("%d %s", a.status, a.body)
			}
		}
		return ""
	})
	if dead, _, err := p.engine().DeadLetters(t.Context(), ""); err != nil || len(dead) > 0 {
		t.Errorf("dead letters %+v, %v", dead, err)
	}
}

// refused waits until a service says that it is closed, and when it opens.
func (p *clocked) refused(service string, opens time.Time) {
	p.t.Helper()
	var a answer
	await(p.t, service+" to be closed", func() string {
		if a = call(p.t, p).do(p.t.Context(), http.MethodGet, service, "/sleep?ms=0", ""); a.err != nil || a.status != http.StatusServiceUnavailable {
			return fmt.Sprintf("%d %v", a.status, a.err)
		}
		return ""
	})
	a.problem(p.t, http.StatusServiceUnavailable)
	after, err := strconv.Atoi(a.header.Get("Retry-After"))
	if wait := opens.Sub(p.now()); err != nil || after < 1 || time.Duration(after)*time.Second < wait-time.Second || time.Duration(after)*time.Second > wait+10*time.Second {
		p.t.Errorf("Retry-After %q, it opens in %v", a.header.Get("Retry-After"), wait)
	}
	if !strings.Contains(a.body, `"`+problem.TypeClosed+`"`) {
		p.t.Errorf("refused with %s", a.body)
	}
}

// An engine that was killed in the midst of a window, or of a change, has what
// is declared when it is back, and leaves nothing of what is not.
func TestScheduleOverAKill(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "the controller's own tests have it")
	p := newClocked(t)
	p.service("sc-killed", nil, nil)
	awaitNoPods(t, p, "sc-killed")
	begins := p.now().Truncate(time.Minute).Add(time.Minute)
	p.schedule("sc-killed", scaling.Spec{Service: "sc-killed", Windows: []scaling.Window{window(begins, begins.Add(time.Hour), floor(2))}})
	p.until(begins)
	p.engine().kill(t) // whatever it has done of it
	p.start(p.engine().version.DataDir, begins.Add(10*time.Minute))
	awaitReady(t, p, "sc-killed", 2)
	s := p.awaitStatus("sc-killed", "in its window", floored(2))
	if s.Lead == nil || s.Lead.Source != "learned" {
		t.Errorf("lead %+v", s.Lead)
	}
	before := pods(t, p, "sc-killed")
	p.engine().kill(t)
	p.start(p.engine().version.DataDir, begins.Add(2*time.Hour)) // the window's end was slept through
	p.awaitStatus("sc-killed", "out of its window", floored(0))
	for _, pod := range before {
		awaitGone(t, pod.PID)
	}
	if own := pods(t, p, "sc-killed"); len(own) > 0 {
		t.Errorf("pods after the window: %+v", own)
	}
	// And a clock that is set back has the window again, and its end.
	p.until(begins.Add(30 * time.Minute))
	awaitReady(t, p, "sc-killed", 2)
	p.until(begins.Add(-time.Hour))
	awaitNoPods(t, p, "sc-killed")
}

// A floor moves to a new revision with the requests.
func TestScheduleRollout(t *testing.T) {
	t.Parallel()
	p := newClocked(t)
	p.service("sc-rolled", nil, nil)
	p.schedule("sc-rolled", scaling.Spec{Service: "sc-rolled", Windows: []scaling.Window{{Hold: floor(2)}}})
	awaitReady(t, p, "sc-rolled", 2)
	if err := p.objects().changed(t.Context(), "sc-rolled", map[string]string{"VERSION": "2"}, nil); err != nil {
		t.Fatal(err)
	}
	await(t, "the new revision to have the floor, and the old one no pod", func() string {
		by := map[string][]client.Pod{}
		for _, pod := range pods(t, p, "sc-rolled") {
			by[pod.Revision] = append(by[pod.Revision], pod)
		}
		if len(by["sc-rolled-00002"]) != 2 || len(by["sc-rolled-00001"]) > 0 {
			return fmt.Sprintf("%+v", by)
		}
		return ""
	})
	p.awaitStatus("sc-rolled", "of the new revision", func(s scaling.Status) bool { return s.Revision == "sc-rolled-00002" })
}
