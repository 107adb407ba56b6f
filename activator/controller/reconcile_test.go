package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"aisle.dev/aisle/internal/scaling"
)

// Bounds are set when a window begins and given back when it ends, whatever a
// Revision had before and however its keys are spelt.
func TestWindow(t *testing.T) {
	const legacyMin, legacyMax = "autoscaling.knative.dev/minScale", "autoscaling.knative.dev/maxScale"
	type values = map[string]string
	for _, c := range []struct {
		name          string
		spec          scaling.Spec
		found, during values
	}{
		{"nothing before", office(2, 4), nil, values{minScale: "2", maxScale: "4"}},
		{"a floor alone", office(2, 0), nil, values{minScale: "2"}},
		{"a cap alone", office(0, 4), nil, values{maxScale: "4"}},
		{"a lower floor of its own", office(2, 4), values{minScale: "1", maxScale: "10"}, values{minScale: "2", maxScale: "4"}},
		{"stricter bounds of its own", office(2, 4), values{minScale: "3", maxScale: "3"}, values{minScale: "3", maxScale: "3"}},
		{"a floor of its own above the cap", office(0, 2), values{minScale: "3"}, values{minScale: "2", maxScale: "2"}},
		{"legacy spelling", office(2, 4), values{legacyMin: "1", legacyMax: "10"}, values{legacyMin: "2", legacyMax: "4"}},
		{"one of each spelling", office(2, 4), values{legacyMin: "1"}, values{legacyMin: "2", maxScale: "4"}},
		{"both spellings of one key", office(2, 4), values{legacyMin: "9", minScale: "1"}, values{legacyMin: "9", minScale: "2", maxScale: "4"}},
		{"written as zero", office(0, 4), values{minScale: "0", maxScale: "0"}, values{minScale: "0", maxScale: "4"}},
		{"no numbers", office(2, 4), values{minScale: "x", maxScale: "-1"}, values{minScale: "2", maxScale: "4"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, newService(share{first, 100}), revision(1, c.found), newSchedule("day", c.spec))
			if sleep := w.settle(); sleep != longestSleep {
				t.Errorf("an hour before the window it sleeps for %s", sleep)
			}
			w.want(first, c.found)
			w.condition("day", scaling.Ready, "True Set")
			w.now = eight.Add(-20 * time.Second)
			if sleep := w.settle(); sleep != 20*time.Second {
				t.Errorf("20 s before the window it sleeps for %s", sleep)
			}
			w.at(eight)
			w.want(first, c.during)
			w.at(eight.Add(10 * time.Hour))
			w.want(first, c.found)
			if s := w.schedule("day").Status; len(s.Found) != 0 || s.Window != "" {
				t.Errorf("status after the window: %+v", s)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	w := newWorld(t, newService(share{first, 100}), revision(1, map[string]string{minScale: "9"}), newSchedule("day", office(2, 4)))
	w.at(eight)
	s := w.schedule("day").Status
	if *s.Floor != 4 || *s.Cap != 4 || s.Window != "office" || s.Revision != first || s.Rule != "100% of traffic, the largest share" ||
		!s.Next.Equal(new(metav1.NewTime(eight.Add(10*time.Hour)))) || s.Lead.Source != "none" || s.Closed {
		t.Errorf("%+v", s)
	}
	if want := []scaling.Found{{Revision: first, MinKey: minScale, Min: "9"}}; !slices.Equal(s.Found, want) {
		t.Errorf("found %+v, want %+v", s.Found, want)
	}
	w.condition("day", scaling.FloorCut, "True FloorAboveCap")
	w.condition("day", scaling.NotEnforced, "False Enforced")
	w.condition("day", scaling.Expired, "False NotExpired")
	var told []string
	for len(w.events.Events) > 0 {
		told = append(told, <-w.events.Events)
	}
	want := "Normal BoundsSet revision title-00001: max-scale 4, min-scale 4, because day: office until 2026-11-23T18:00:00Z"
	if !slices.Equal(told, []string{want}) {
		t.Errorf("%q", told)
	}
	version := w.schedule("day").ResourceVersion
	w.at(eight.Add(time.Hour))
	if is := w.schedule("day").ResourceVersion; is != version {
		t.Errorf("its status was written though nothing changed")
	}
}

// Where requests go to another Revision, that one gets the bounds and the old
// one has what it had.
func TestTrafficMoves(t *testing.T) {
	w := newWorld(t, newService(share{first, 100}), revision(1, map[string]string{minScale: "1"}), revision(2, map[string]string{maxScale: "9"}), newSchedule("day", office(2, 4)))
	w.at(eight)
	for _, c := range []struct {
		name   string
		shares []share
		holder string
	}{
		{"a tenth to the new one", []share{{first, 90}, {second, 10}}, first},
		{"a half: the newest", []share{{first, 50}, {second, 50}}, second},
		{"back", []share{{first, 100}}, first},
		{"by two tags", []share{{second, 30}, {first, 40}, {second, 30}}, second},
		{"all to the new one", []share{{second, 100}}, second},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			w.route(c.shares...)
			w.settle()
			if c.holder == first {
				w.want(first, map[string]string{minScale: "2", maxScale: "4"})
				w.want(second, map[string]string{maxScale: "9"})
			} else {
				w.want(first, map[string]string{minScale: "1"})
				w.want(second, map[string]string{minScale: "2", maxScale: "4"})
			}
			if s := w.schedule("day").Status; s.Revision != c.holder || len(s.Found) != 1 || s.Found[0].Revision != c.holder {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestServiceComesAndGoes(t *testing.T) {
	w := newWorld(t, newSchedule("day", office(2, 4)))
	w.at(eight)
	w.condition("day", scaling.Ready, "False ServiceNotFound")
	w.must(w.direct.Create(t.Context(), newService()))
	w.settle()
	w.condition("day", scaling.Ready, "False NoTraffic")
	w.must(w.direct.Create(t.Context(), revision(1, nil)))
	w.route(share{first, 100})
	w.settle()
	w.want(first, map[string]string{minScale: "2", maxScale: "4"})
	w.must(w.direct.Delete(t.Context(), newService()))
	w.must(w.direct.Delete(t.Context(), revision(1, nil)))
	w.settle()
	w.condition("day", scaling.Ready, "False ServiceNotFound")
	if s := w.schedule("day").Status; len(s.Found) != 0 || s.Revision != "" {
		t.Errorf("%+v", s)
	}
	w.must(w.direct.Delete(t.Context(), newSchedule("day", office(2, 4))))
	w.settle()
	w.gone("day")
}

func (w *world) gone(name string) {
	w.t.Helper()
	err := w.direct.Get(w.t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, &scaling.ScalingSchedule{})
	if !apierrors.IsNotFound(err) {
		w.t.Fatalf("schedule %s: %v", name, err)
	}
}

// Two schedules of a service: the highest floor and the lowest cap, and what was
// found outlives the one that found it.
func TestTwoSchedules(t *testing.T) {
	found := map[string]string{minScale: "1"}
	w := newWorld(t, newService(share{first, 100}), revision(1, found), newSchedule("day", office(5, 6)))
	w.at(eight)
	w.want(first, map[string]string{minScale: "5", maxScale: "6"})
	night := newSchedule("thrift", office(2, 3))
	w.must(w.direct.Create(t.Context(), night))
	w.settle()
	w.want(first, map[string]string{minScale: "3", maxScale: "3"})
	w.condition("day", scaling.FloorCut, "True FloorAboveCap")
	w.must(w.direct.Delete(t.Context(), newSchedule("day", scaling.Spec{})))
	w.settle()
	w.gone("day")
	w.want(first, map[string]string{minScale: "2", maxScale: "3"})
	w.must(w.direct.Delete(t.Context(), night))
	w.settle()
	w.gone("thrift")
	w.want(first, found)
}

func TestExpiryAndClock(t *testing.T) {
	spec := scaling.Spec{Windows: []scaling.Window{{Hold: scaling.Hold{Floor: new(int32(2)), Cap: new(int32(4))}}}, Until: new(metav1.NewTime(eight.Add(3 * time.Hour)))}
	w := newWorld(t, newService(share{first, 100}), revision(1, nil), newSchedule(scaling.HandName("title"), spec))
	w.at(eight)
	w.want(first, map[string]string{minScale: "2", maxScale: "4"})
	w.at(eight.Add(3 * time.Hour))
	w.want(first, nil)
	w.condition("title-by-hand", scaling.Expired, "True UntilPassed")
	w.at(eight.Add(2 * time.Hour)) // the clock was wrong by an hour
	w.want(first, map[string]string{minScale: "2", maxScale: "4"})
	w.condition("title-by-hand", scaling.Expired, "False NotExpired")
	w.at(eight.AddDate(1, 0, 0))
	w.want(first, nil)
}

func TestInvalid(t *testing.T) {
	bad := office(9, 0)
	bad.TimeZone = "Mars/Olympus"
	w := newWorld(t, newService(share{first, 100}), revision(1, nil), newSchedule("bad", bad), newSchedule("day", office(2, 4)))
	w.at(eight)
	w.want(first, map[string]string{minScale: "2", maxScale: "4"})
	w.condition("day", scaling.Ready, "True Set")
	if c := w.condition("bad", scaling.Ready, "False Invalid"); !strings.Contains(c.Message, "timeZone") {
		t.Error(c.Message)
	}
}

// While a service is closed no floor keeps its pods, the cluster's default
// (config-autoscaler's min-scale) neither.
func TestClosed(t *testing.T) {
	spec := scaling.Spec{Windows: []scaling.Window{{Name: "night", Start: "20:00", End: "06:00", Hold: scaling.Hold{Closed: true}}}}
	found := map[string]string{minScale: "1", maxScale: "4"}
	w := newWorld(t, newService(share{first, 100}), revision(1, found), newSchedule("night", spec))
	w.settle()
	w.want(first, found)
	w.at(eight.Add(13 * time.Hour))
	w.want(first, map[string]string{minScale: "0", maxScale: "4"})
	w.condition("night", scaling.NotEnforced, "True NothingEnforcesIt")
	if s := w.schedule("night").Status; !s.Closed || *s.Floor != 0 {
		t.Errorf("%+v", s)
	}
	w.at(eight.Add(24 * time.Hour))
	w.want(first, found)
	w.condition("night", scaling.NotEnforced, "False Enforced")
}

// What learned lead times raise a floor early by, and that they are kept.
func TestReadyBy(t *testing.T) {
	spec := office(3, 0)
	spec.ReadyBy, spec.LeadTime = true, &metav1.Duration{Duration: 30 * time.Second}
	w := newWorld(t, newService(share{first, 100}), revision(1, nil), newSchedule("day", spec))
	w.at(eight.Add(-31 * time.Second))
	w.want(first, nil)
	if l := w.schedule("day").Status.Lead; l.Source != "declared" {
		t.Errorf("%+v", l)
	}
	w.at(eight.Add(-30 * time.Second))
	w.want(first, map[string]string{minScale: "3"})
	if s := w.schedule("day").Status; s.Window != "office (early)" {
		t.Errorf("%+v", s)
	}
	for range 40 {
		if !w.r.leads.observe(title, first, 2*time.Minute) {
			t.Fatal("starts of a service with a schedule are not learned")
		}
	}
	if w.r.leads.observe(types.NamespacedName{Namespace: namespace, Name: "another"}, "another-00001", time.Minute) {
		t.Error("starts of a service without a schedule are learned")
	}
	w.settle()
	l := w.schedule("day").Status.Lead
	if l.Source != "learned" || l.Sample != 40 || l.Time.Duration < 2*time.Minute {
		t.Errorf("%+v", l)
	}
	w.at(eight.Add(10 * time.Hour)) // the window has ended
	w.restart()
	w.at(eight.Add(24*time.Hour - l.Time.Duration - time.Second))
	w.want(first, nil)
	w.at(eight.Add(24*time.Hour - l.Time.Duration))
	w.want(first, map[string]string{minScale: "3"})
}

// A floor that holds early does not go before its window, though the starts that
// it brought about were quicker than was thought.
func TestStaysEarly(t *testing.T) {
	spec := office(3, 0)
	spec.ReadyBy, spec.LeadTime = true, &metav1.Duration{Duration: time.Minute}
	w := newWorld(t, newService(share{first, 100}), revision(1, nil), newSchedule("day", spec))
	w.at(eight.Add(-time.Minute))
	w.want(first, map[string]string{minScale: "3"})
	for range 40 {
		w.r.leads.observe(title, first, time.Second)
	}
	for _, before := range []time.Duration{50 * time.Second, 20 * time.Second, 0, -time.Hour} {
		if before == 20*time.Second {
			w.restart()
		}
		w.at(eight.Add(-before))
		w.want(first, map[string]string{minScale: "3"})
	}
	if l := w.schedule("day").Status.Lead; l.Source != "learned" || l.Time.Duration > 2*time.Second {
		t.Errorf("in the window: %+v", l)
	}
	w.at(eight.Add(24*time.Hour - time.Minute))
	w.want(first, nil)
}

// A patch that Knative's webhook refuses is told of, and tried again.
func TestRefused(t *testing.T) {
	w := newWorld(t, newService(share{first, 100}), revision(1, nil), newSchedule("day", office(2, 400)))
	w.now = eight
	w.hooks.before = func(what string, o client.Object, _ []byte) error {
		if o.GetName() == first {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "revisions"}, first, errors.New("max-scale 400 is above max-scale-limit"))
		}
		return nil
	}
	for range 2 {
		if _, err := w.r.Reconcile(t.Context(), request()); err == nil {
			t.Fatal("no error")
		}
	}
	if c := w.condition("day", scaling.Ready, "False NotSet"); !strings.Contains(c.Message, "max-scale-limit") {
		t.Error(c.Message)
	}
	w.hooks = hooks{}
	w.settle()
	w.want(first, map[string]string{minScale: "2", maxScale: "400"})
	w.condition("day", scaling.Ready, "True Set")
	w.at(eight.Add(12 * time.Hour))
	w.want(first, nil)
}

// Another's writes between the reading of a Revision and its first patch: of its
// status they do not matter, of its bounds they are what is found.
func TestWrittenMeanwhile(t *testing.T) {
	for _, c := range []struct {
		name  string
		by    annotations
		found map[string]string
	}{
		{"status", annotations{other: new("somebody")}, map[string]string{minScale: "1"}},
		{"bounds", annotations{minScale: new("3")}, map[string]string{minScale: "3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, newService(share{first, 100}), revision(1, map[string]string{minScale: "1"}), newSchedule("day", office(5, 0)))
			w.now = eight
			once := false
			w.hooks.before = func(_ string, o client.Object, _ []byte) error {
				if o.GetName() == first && !once {
					once = true
					var r servingv1.Revision
					w.must(w.direct.Get(t.Context(), types.NamespacedName{Namespace: namespace, Name: first}, &r))
					for key, value := range c.by {
						r.Annotations[key] = *value
					}
					r.Labels["written"] = "meanwhile"
					w.must(w.direct.Update(t.Context(), &r))
				}
				return nil
			}
			w.settle()
			w.want(first, map[string]string{minScale: "5"})
			w.at(eight.Add(12 * time.Hour))
			w.want(first, c.found)
		})
	}
}

// What somebody else sets while a window holds is set back.
func TestSetBack(t *testing.T) {
	w := newWorld(t, newService(share{first, 100}), revision(1, nil), newSchedule("day", office(5, 0)))
	w.at(eight)
	w.annotate(first, annotations{minScale: nil, maxScale: new("1")})
	w.settle()
	w.want(first, map[string]string{minScale: "5"})
	w.at(eight.Add(12 * time.Hour))
	w.want(first, nil)
}

func TestAnotherService(t *testing.T) {
	w := newWorld(t, newService(share{first, 100}), revision(1, nil), newSchedule("day", office(5, 0)))
	w.at(eight)
	s := w.schedule("day")
	s.Spec.Service = "photo"
	w.must(w.direct.Update(t.Context(), s))
	photo := request()
	photo.Name = "photo"
	if _, err := w.r.Reconcile(t.Context(), photo); err != nil {
		t.Fatal(err)
	}
	w.want(first, nil)
}

// Killed before or after each of its writes, in each phase of a schedule's life,
// it goes on as if nothing had been; and in all of it nothing but the two
// annotations of a Revision is written.
func TestKilled(t *testing.T) {
	for n, more := 0, true; more; n++ {
		for _, landed := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d landed %v", n, landed), func(t *testing.T) {
				more = lifeWithKill(t, n, landed)
			})
		}
		if n > 200 {
			t.Fatal("the scenario does not end")
		}
	}
}

var errKilled = errors.New("killed")

// lifeWithKill runs a schedule's life and kills the controller once, at its n-th
// write. It says whether there was an n-th write.
func lifeWithKill(t *testing.T, n int, landed bool) bool {
	own := [2]map[string]string{{minScale: "1", maxScale: "9"}, {"autoscaling.knative.dev/minScale": "2"}}
	w := newWorld(t, newService(share{first, 100}), revision(1, own[0]), revision(2, own[1]),
		newSchedule("day", office(5, 6)), newSchedule("thrift", office(0, 7)))
	writes, dead := 0, false
	kill := func(now bool) error {
		if dead {
			return errKilled
		}
		if writes == n && now {
			dead = true
			return errKilled
		}
		return nil
	}
	w.hooks.before = func(_ string, o client.Object, patch []byte) error {
		if strings.HasPrefix(o.GetName(), "title-") {
			onlyBounds(t, patch)
		}
		return kill(!landed)
	}
	w.hooks.after = func(string, client.Object, []byte) error {
		err := kill(landed)
		writes++
		return err
	}
	settle := func() {
		t.Helper()
		for range 20 {
			result, err := w.r.Reconcile(t.Context(), request())
			switch {
			case errors.Is(err, errKilled):
				dead = false
				writes = n + 1
				w.restart()
			case err != nil:
				t.Fatal(err)
			case result.RequeueAfter == 0 || result.RequeueAfter > 100*time.Millisecond:
				return
			}
		}
		t.Fatal("it does not come to rest")
	}
	w.now = eight
	settle()
	w.want(first, map[string]string{minScale: "5", maxScale: "6"})
	w.route(share{second, 100})
	settle()
	w.want(first, own[0])
	w.want(second, map[string]string{"autoscaling.knative.dev/minScale": "5", maxScale: "6"})
	w.must(w.direct.Delete(t.Context(), newSchedule("day", scaling.Spec{})))
	settle()
	w.want(second, map[string]string{"autoscaling.knative.dev/minScale": "2", maxScale: "7"})
	w.now = eight.Add(12 * time.Hour)
	settle()
	w.want(second, own[1])
	w.now = eight.Add(24 * time.Hour)
	settle()
	w.want(second, map[string]string{"autoscaling.knative.dev/minScale": "2", maxScale: "7"})
	w.must(w.direct.Delete(t.Context(), newSchedule("thrift", scaling.Spec{})))
	settle()
	w.want(first, own[0])
	w.want(second, own[1])
	w.gone("day")
	w.gone("thrift")
	return writes > n
}

// onlyBounds wants a patch of a Revision to set two annotations, both at once.
func onlyBounds(t *testing.T, patch []byte) {
	t.Helper()
	var p map[string]map[string]any
	if err := json.Unmarshal(patch, &p); err != nil {
		t.Fatal(err)
	}
	meta := p["metadata"]
	set, _ := meta["annotations"].(map[string]any)
	delete(meta, "resourceVersion")
	for key := range maps.Keys(set) {
		if !strings.HasPrefix(key, "autoscaling.knative.dev/m") {
			t.Errorf("annotation %s is touched", key)
		}
	}
	if len(p) != 1 || len(meta) != 1 || len(set) != 2 {
		t.Errorf("a patch of more, or less, than two annotations: %s", patch)
	}
}

// The oldest schedules of a service have room; one beyond says so, and bounds
// nothing.
func TestMoreWindowsThanBoundAService(t *testing.T) {
	full := scaling.Spec{Windows: slices.Repeat([]scaling.Window{{Hold: scaling.Hold{Floor: new(int32(1))}}}, scaling.MaxWindows)}
	objects := []client.Object{newService(share{first, 100}), revision(1, nil)}
	for i := range scaling.MaxServiceWindows / scaling.MaxWindows {
		s := newSchedule(fmt.Sprint("full-", i), full)
		s.CreationTimestamp = metav1.NewTime(eight.Add(-time.Hour))
		objects = append(objects, s)
	}
	late := newSchedule("a-late-one", office(9, 0))
	late.CreationTimestamp = metav1.NewTime(eight)
	w := newWorld(t, append(objects, late)...)
	w.now = eight
	w.settle()
	w.want(first, map[string]string{minScale: "1"})
	if c := w.condition("a-late-one", scaling.Ready, "False Invalid"); !strings.Contains(c.Message, "at most 512") {
		t.Errorf("%+v", c)
	}
	w.condition("full-0", scaling.Ready, "True Set")
}

// Of a Revision that began at zero and has no pod it is said that a floor may
// bring it none.
func TestFloorOfARevisionThatBeganAtZero(t *testing.T) {
	const initial = "autoscaling.knative.dev/initial-scale"
	w := newWorld(t, newService(share{first, 100}), revision(1, map[string]string{initial: "0"}), newSchedule("office", office(2, 0)))
	w.at(eight.Add(-time.Hour))
	w.condition("office", scaling.NotEnforced, "False Enforced")
	w.at(eight)
	if c := w.condition("office", scaling.NotEnforced, "True NothingEnforcesIt"); !strings.Contains(c.Message, "initial-scale 0") {
		t.Errorf("%s", c.Message)
	}
	w.want(first, map[string]string{initial: "0", minScale: "2"})
	w.must(w.direct.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: first + "-deployment-1", Labels: map[string]string{serving.RevisionLabelKey: first}}}))
	w.at(eight.Add(time.Minute))
	w.condition("office", scaling.NotEnforced, "False Enforced")
}
