package engine

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"aisle.dev/aisle/activator/engine/access"
	"aisle.dev/aisle/activator/engine/clock/clocktest"
	"aisle.dev/aisle/activator/engine/hand"
	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/activator/scale"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/scaling"
)

var one = types.NamespacedName{Namespace: "default", Name: "one"}

// aSchedule of the Service one, or of another that its spec names.
func aSchedule(name, spec string) string {
	if !strings.Contains(spec, "service:") {
		spec = "service: one, " + spec
	}
	return fmt.Sprintf("{apiVersion: scaling.aisle.dev/v1alpha1, kind: ScalingSchedule, metadata: {name: %s}, spec: {%s}}\n", name, spec)
}

const officeHours = "windows: [{name: office, days: [Mon-Fri], start: '08:00', end: '18:00', floor: 2, cap: 4}]"

// monday is the 23rd of November 2026, at a time of day.
func monday(clock string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", "2026-11-23 "+clock)
	if err != nil {
		panic(err)
	}
	return t
}

func apply(t *testing.T, c *control, manifests ...string) {
	t.Helper()
	for _, m := range manifests {
		if _, _, _, err := c.Apply(access.Caller{}, read(t, m)[0], false); err != nil {
			t.Fatal(err)
		}
	}
}

// status waits for a schedule's to be as it is met.
func status(t *testing.T, c *control, name string, met func(scaling.Status) bool) scaling.Status {
	t.Helper()
	for {
		_, version := c.store.List(objects.Schedules, "")
		o, _ := c.store.Get(objects.Schedules.Key("default", name)).(*scaling.ScalingSchedule)
		if o != nil && met(o.Status) {
			return o.Status
		}
		_, now, changed, err := c.store.Since(version)
		if err != nil {
			t.Fatal(err)
		}
		if now == version {
			<-changed // else the test hangs, and says where
		}
	}
}

func floorIs(n int32) func(scaling.Status) bool {
	return func(s scaling.Status) bool { return s.Floor != nil && *s.Floor == n }
}

// boundsOf are those of a revision of the Service one.
func boundsOf(c *control, revision string) *scale.Bounds {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.services[one].running[revision]
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bounds
}

func wantBounds(t *testing.T, c *control, want *scale.Bounds) {
	t.Helper()
	if d := cmp.Diff(want, boundsOf(c, "one-00001")); d != "" {
		t.Errorf("bounds (-want +got):\n%s", d)
	}
}

// Bounds are those of the time, however the clock came to it.
func TestBoundsFollowTheClock(t *testing.T) {
	now := clocktest.At(monday("07:00:00"))
	c := controllingAt(t, now, t.TempDir(), t.TempDir(), settings+"---"+oneService("1")+"---\n"+aSchedule("office", officeHours))
	defer c.stop()
	office := &scale.Bounds{Floor: 2, Cap: 4, By: "office"}
	wantBounds(t, c, nil)
	for _, step := range []struct {
		name string
		to   time.Time
		want *scale.Bounds
	}{
		{"it rings", monday("07:59:59.9"), office},
		{"an hour back", monday("07:00:00"), nil},
		{"and forward", monday("08:30:00"), office},
		{"a day's sleep, into the next window", monday("09:00:00").AddDate(0, 0, 1), office},
		{"past a window that was slept through", monday("19:00:00").AddDate(0, 0, 2), nil},
		{"a year back", monday("12:00:00").AddDate(-1, 0, 1), office},
	} {
		floor := int32(0)
		if step.want != nil {
			floor = 2
		}
		now.Move(step.to)
		got := status(t, c, "office", floorIs(floor))
		t.Log(step.name)
		wantBounds(t, c, step.want)
		if (got.Window == "office") != (step.want != nil) || got.Next == nil || got.Revision != "one-00001" || !meta.IsStatusConditionTrue(got.Conditions, scaling.Ready) {
			t.Errorf("%s: status %+v", step.name, got)
		}
	}
}

// An engine that comes back in the middle of a window has its bounds before it
// decides anything, and what it has learned.
func TestBoundsOverARestart(t *testing.T) {
	dir, leads := t.TempDir(), t.TempDir()
	now := clocktest.At(monday("07:00:00"))
	c := controllingAt(t, now, dir, leads, settings+"---"+oneService("1"))
	apply(t, c, aSchedule("night", "windows: [{name: night, start: '18:00', end: '08:00', closed: true}]"))
	c.schedules.leads.observe(one, "one-00001", 3*time.Second)
	c.stop()
	again := controllingAt(t, clocktest.At(monday("07:30:00")), dir, leads, settings+"---"+oneService("1"))
	defer again.stop()
	wantBounds(t, again, &scale.Bounds{Closed: true, By: "night"})
	until, closed := again.Closed("one.default.svc.cluster.local")
	if !closed || !until.Equal(monday("08:00:00")) {
		t.Errorf("closed %v until %v", closed, until)
	}
	if s := status(t, again, "night", floorIs(0)); !s.Closed || s.Lead == nil || s.Lead.Source != "learned" || s.Lead.Sample != 1 || s.Lead.Time.Duration < 3*time.Second {
		t.Errorf("status %+v, lead %+v", s, s.Lead)
	}
}

// Schedules that fight, and one that is deleted.
func TestSchedulesThatFight(t *testing.T) {
	c := controllingAt(t, clocktest.At(monday("12:00:00")), t.TempDir(), t.TempDir(), settings+"---"+oneService("1"))
	defer c.stop()
	apply(t, c, aSchedule("greedy", "windows: [{floor: 9}]"), aSchedule("thrifty", "windows: [{cap: 2}]"), aSchedule("office", officeHours))
	wantBounds(t, c, &scale.Bounds{Floor: 2, Cap: 2, By: "greedy, office, thrifty"})
	for _, name := range []string{"greedy", "thrifty", "office"} {
		if s := status(t, c, name, floorIs(2)); !meta.IsStatusConditionTrue(s.Conditions, scaling.FloorCut) || *s.Cap != 2 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	for _, gone := range []string{"thrifty", "greedy", "office"} {
		if _, err := c.Delete(access.Caller{}, objects.Schedules.Key("default", gone)); err != nil {
			t.Fatal(err)
		}
	}
	wantBounds(t, c, nil)
}

// Who may set bounds by hand takes no schedule of another service's away.
func TestByHandIsOfItsService(t *testing.T) {
	c := controllingAt(t, clocktest.At(monday("12:00:00")), t.TempDir(), t.TempDir(), settings+"---"+oneService("1"))
	defer c.stop()
	apply(t, c, aSchedule("one-by-hand", "service: two, "+officeHours))
	_, err := c.Update("default", "one", func(s hand.State) (hand.Change, error) {
		set, err := scaling.ByHand{Min: new(int32(1)), For: "1h"}.Schedule("default", "one", "somebody", s.Now)
		return hand.Change{Schedule: set}, err
	})
	if problem.Status(err) != http.StatusUnprocessableEntity || !strings.Contains(err.Error(), "the service two") {
		t.Errorf("%v", err)
	}
	if o := c.store.Get(objects.Schedules.Key("default", "one-by-hand")).(*scaling.ScalingSchedule); o.Spec.Service != "two" {
		t.Errorf("it bounds %s now", o.Spec.Service)
	}
}

// The bounds wait for a service that is not there, and follow it.
func TestTargetThatComesAndGoes(t *testing.T) {
	c := controllingAt(t, clocktest.At(monday("12:00:00")), t.TempDir(), t.TempDir(), settings)
	defer c.stop()
	missing := func(s scaling.Status) bool {
		ready := meta.FindStatusCondition(s.Conditions, scaling.Ready)
		return ready != nil && ready.Reason == "ServiceNotFound"
	}
	apply(t, c, aSchedule("office", officeHours))
	for range 2 {
		status(t, c, "office", missing)
		apply(t, c, oneService("1"))
		wantBounds(t, c, &scale.Bounds{Floor: 2, Cap: 4, By: "office"})
		status(t, c, "office", func(s scaling.Status) bool { return meta.IsStatusConditionTrue(s.Conditions, scaling.Ready) })
		if _, err := c.Delete(access.Caller{}, objects.Services.Key("default", "one")); err != nil {
			t.Fatal(err)
		}
	}
}

// A schedule stays with its service, as in a cluster, and a service has so many
// windows at most, by all its schedules that are not over.
func TestSchedulesThatMayNotBe(t *testing.T) {
	c := controllingAt(t, clocktest.At(monday("12:00:00")), t.TempDir(), t.TempDir(), settings+"---"+oneService("1"))
	defer c.stop()
	apply(t, c, aSchedule("office", officeHours))
	refused := func(manifest, want string) {
		t.Helper()
		if _, _, _, err := c.Apply(access.Caller{}, read(t, manifest)[0], false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want ... %s ...", err, want)
		}
	}
	refused(aSchedule("office", "service: two, "+officeHours), "stays with its service")
	full := "windows: [" + strings.Repeat("{floor: 1},", scaling.MaxWindows) + "]"
	for i := range scaling.MaxServiceWindows/scaling.MaxWindows - 1 {
		apply(t, c, aSchedule(fmt.Sprint("full-", i), full))
	}
	apply(t, c, aSchedule("over", full+", until: '2026-11-23T11:00:00Z'"))
	refused(aSchedule("more", full), "at most 512")
	apply(t, c, aSchedule("full-0", full), aSchedule("another", "service: two, "+full))
	wantBounds(t, c, &scale.Bounds{Floor: 2, Cap: 4, By: "full-0, full-1, full-2, full-3, full-4, full-5, full-6, office"})
}

// A new revision has the bounds once requests go to it, the one before its own.
func TestBoundsMoveToTheLiveRevision(t *testing.T) {
	c := controllingAt(t, clocktest.At(monday("12:00:00")), t.TempDir(), t.TempDir(), settings+"---"+oneService("1"))
	defer c.stop()
	proven(t, c)
	apply(t, c, aSchedule("office", officeHours), oneService("2")) // which is never ready
	wantBounds(t, c, &scale.Bounds{Floor: 2, Cap: 4, By: "office"})
	if b := boundsOf(c, "one-00002"); b != nil {
		t.Errorf("the new one has %+v before it gets requests", b)
	}
	c.mu.Lock()
	after := c.services[one].running["one-00002"]
	c.mu.Unlock()
	c.proven(after)
	if b := boundsOf(c, "one-00002"); b == nil || b.Floor != 2 {
		t.Errorf("the new one has %+v", b)
	}
	c.mu.Lock()
	before := c.services[one].running["one-00001"] // nil: it is gone already
	c.mu.Unlock()
	if before != nil {
		wantBounds(t, c, nil)
	}
}

// What was set by hand ends by itself, and is deleted an hour later; other
// schedules stay, and say so.
func TestExpiry(t *testing.T) {
	now := clocktest.At(monday("12:00:00"))
	c := controllingAt(t, now, t.TempDir(), t.TempDir(), settings+"---"+oneService("1"))
	defer c.stop()
	until := ", until: '2026-11-23T13:00:00Z'"
	apply(t, c, aSchedule(scaling.HandName("one"), "windows: [{floor: 3}]"+until), aSchedule("campaign", "windows: [{floor: 1}]"+until))
	wantBounds(t, c, &scale.Bounds{Floor: 3, By: "campaign, one-by-hand"})
	now.Move(monday("13:00:00"))
	for _, name := range []string{scaling.HandName("one"), "campaign"} {
		status(t, c, name, func(s scaling.Status) bool {
			return meta.IsStatusConditionTrue(s.Conditions, scaling.Expired) && floorIs(0)(s)
		})
	}
	wantBounds(t, c, nil)
	now.Move(monday("14:00:00"))
	for {
		_, version := c.store.List(objects.Schedules, "")
		if c.store.Get(objects.Schedules.Key("default", scaling.HandName("one"))) == nil {
			break
		}
		if _, now, changed, err := c.store.Since(version); err == nil && now == version {
			<-changed
		}
	}
	status(t, c, "campaign", func(s scaling.Status) bool { return meta.IsStatusConditionTrue(s.Conditions, scaling.Expired) })
}

// A floor is raised early by what was learned, and a pod that was quick does not
// lower it again before its window begins.
func TestReadyBy(t *testing.T) {
	now := clocktest.At(monday("07:00:00"))
	c := controllingAt(t, now, t.TempDir(), t.TempDir(), settings+"---"+oneService("1"))
	defer c.stop()
	r := proven(t, c)
	for range 8 {
		c.schedules.leads.observe(one, "one-00001", time.Minute)
	}
	apply(t, c, aSchedule("office", "readyBy: true, "+officeHours))
	wantBounds(t, c, nil)
	lead := status(t, c, "office", floorIs(0)).Lead
	if lead == nil || lead.Time.Duration < time.Minute || lead.Time.Duration > 3*time.Minute {
		t.Fatalf("lead %+v", lead)
	}
	now.Move(monday("08:00:00").Add(-lead.Time.Duration))
	if s := status(t, c, "office", floorIs(2)); s.Window != "office (early)" {
		t.Errorf("window %q", s.Window)
	}
	for range 100 {
		c.learned(r, time.Millisecond)
	}
	wantBounds(t, c, &scale.Bounds{Floor: 2, By: "office"})
	now.Move(monday("08:00:00"))
	if s := status(t, c, "office", func(s scaling.Status) bool { return s.Window == "office" }); *s.Floor != 2 {
		t.Errorf("in the window: %+v", s)
	}
	c.learned(r, time.Millisecond)
	status(t, c, "office", func(s scaling.Status) bool { return s.Lead.Time.Duration < time.Second })
}

func TestScheduleRefused(t *testing.T) {
	c := controlling(t, t.TempDir(), settings+"---"+oneService("1"))
	defer c.stop()
	for field, spec := range map[string]string{
		"spec.windows[0].cap":   "windows: [{cap: 0}]",
		"spec.windows[0].flor":  "windows: [{flor: 1}]",
		"spec.timeZone":         "timeZone: Mars/Base, windows: [{floor: 1}]",
		"spec.windows[0].floor": "windows: [{floor: -1}]",
		"spec.until":            "until: tomorrow, windows: [{floor: 1}]",
	} {
		raw := read(t, aSchedule("bad", spec))[0]
		_, _, _, err := c.Apply(access.Caller{}, raw, false)
		if err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(field, "spec.")) {
			t.Errorf("%s: %v", spec, err)
		}
	}
	if len(c.schedules.services) > 0 {
		t.Error("something of them is kept")
	}
}

// BenchmarkTurn is what a change costs by the clock where 10,000 services have
// schedules.
func BenchmarkTurn(b *testing.B) {
	c := &control{engine: &Engine{log: slog.New(slog.DiscardHandler)}, services: map[types.NamespacedName]*service{}}
	var err error
	if c.store, _, err = objects.Open(b.TempDir()); err != nil {
		b.Fatal(err)
	}
	now := clocktest.At(monday("07:00:00"))
	c.schedules = newSchedules(now, newLeads(b.TempDir(), now.Now, c.engine.log))
	for i := range 10_000 {
		o := &scaling.ScalingSchedule{}
		o.APIVersion, o.Kind = scaling.GroupVersion.String(), scaling.Kind
		o.Namespace, o.Name = "default", fmt.Sprintf("s%05d", i)
		o.Spec = scaling.Spec{Service: fmt.Sprintf("service-%05d", i), TimeZone: "Europe/Berlin", Windows: []scaling.Window{{
			Days: []string{"Mon-Fri"}, Start: fmt.Sprintf("%02d:%02d", 8+i%600/60, i%60), End: "23:00", Hold: scaling.Hold{Floor: new(int32(1))},
		}}}
		c.store.Show(objects.Change{Key: objects.KeyOf(o), Object: o})
	}
	c.loadSchedules()
	c.turn(true)
	some := c.schedules.services[types.NamespacedName{Namespace: "default", Name: "service-05000"}]
	for b.Loop() {
		some.due = now.Now()
		c.turn(false)
	}
}
