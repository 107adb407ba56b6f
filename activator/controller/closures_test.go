package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/internal/scaling"
)

func nightly(from, to string) scaling.Spec {
	return scaling.Spec{Windows: []scaling.Window{{Days: []string{"Fri"}, Start: from, End: to, Hold: scaling.Hold{Closed: true}}}}
}

func TestClosures(t *testing.T) {
	one := *newSchedule("night", nightly("22:00", "06:00"))
	more := *newSchedule("early", nightly("06:00", "07:00"))
	photo := *newSchedule("photo", scaling.Spec{Windows: []scaling.Window{{Hold: scaling.Hold{Closed: true}}}, Until: new(metav1.NewTime(eight.Add(time.Hour)))})
	photo.Spec.Service = "photo"
	bad := *newSchedule("bad", scaling.Spec{TimeZone: "Mars/Olympus", Windows: []scaling.Window{{Hold: scaling.Hold{Closed: true}}}})
	open := *newSchedule("day", office(1, 2))
	for _, c := range []struct {
		name string
		all  []scaling.ScalingSchedule
		want string
	}{
		{"none", nil, ""},
		{"none that closes", []scaling.ScalingSchedule{open}, ""},
		{"two weeks", []scaling.ScalingSchedule{one, open}, `{"shop/title":[["2026-11-27T22:00:00Z","2026-11-28T06:00:00Z"],["2026-12-04T22:00:00Z","2026-12-05T06:00:00Z"]]}`},
		{"two schedules, two services, one of them useless", []scaling.ScalingSchedule{one, more, photo, bad},
			`{"shop/photo":[["2026-11-23T08:00:00Z","2026-11-23T09:00:00Z"]],"shop/title":[["2026-11-27T06:00:00Z","2026-11-27T07:00:00Z"],["2026-11-27T22:00:00Z","2026-11-28T06:00:00Z"],["2026-12-04T06:00:00Z","2026-12-04T07:00:00Z"],["2026-12-04T22:00:00Z","2026-12-05T06:00:00Z"]]}`},
		{"none left", []scaling.ScalingSchedule{*newSchedule("gone", scaling.Spec{Windows: photo.Spec.Windows, Until: new(metav1.NewTime(eight.Add(-time.Hour)))})}, `{}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			said, err := closures(namespace, c.all, eight.Add(20*time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, string(said)); d != "" {
				t.Error(d)
			}
		})
	}
	var many []scaling.ScalingSchedule
	for i := range maxServices + 1 {
		s := *newSchedule("night", nightly("22:00", "06:00"))
		s.Spec.Service = fmt.Sprint("s", i)
		many = append(many, s)
	}
	if _, err := closures(namespace, many, eight); err == nil {
		t.Error("more services than a ConfigMap holds")
	}
	// As often as can be, and the longest names: what a ConfigMap takes.
	for i := range many {
		many[i].Spec.Service = strings.Repeat("x", 60) + fmt.Sprint(i)
		many[i].Spec.Windows = []scaling.Window{{Cron: &scaling.Cron{Start: "*/2 * * * *", End: "1-59/2 * * * *"}, Hold: scaling.Hold{Closed: true}}}
	}
	if said, err := closures(namespace, many[:maxServices], eight); err != nil || len(said) > 1<<20 || len(said) < maxServices*maxClosures*40 {
		t.Errorf("%d bytes, %v", len(said), err)
	}
}

// Windows that close a service in turn, each minute another, are one closure;
// and a schedule that nobody means costs a bounded number of looks.
func TestClosuresInTurn(t *testing.T) {
	even, odd := "*/2 * * * *", "1-59/2 * * * *"
	closing, floor := scaling.Hold{Closed: true}, scaling.Hold{Floor: new(int32(1))}
	turns := func(h scaling.Hold) []scaling.Window {
		return []scaling.Window{{Cron: &scaling.Cron{Start: even, End: odd}, Hold: h}, {Cron: &scaling.Cron{Start: odd, End: even}, Hold: h}}
	}
	compiled := func(all ...scaling.Window) []*schedule.Schedule {
		c, err := schedule.Compile("turns", &scaling.Spec{Service: "title", Windows: all})
		if err != nil {
			t.Fatal(err)
		}
		return []*schedule.Schedule{c}
	}
	to := eight.Add(closuresAhead)
	if d := cmp.Diff([]closure{{eight, to}}, closed(compiled(turns(closing)...), eight, to)); d != "" {
		t.Error(d)
	}
	last := scaling.Window{From: "2026-11-30", Until: "2026-11-30", Hold: closing}
	if got := closed(compiled(append(turns(floor), last)...), eight, to); got != nil {
		t.Errorf("%v, more than %d changes ahead", got, maxLooks)
	}
}

func TestClosuresConfigMap(t *testing.T) {
	w := newWorld(t, newSchedule("night", nightly("22:00", "06:00")))
	r := &closuresReconciler{client: w.client, now: func() time.Time { return w.now }}
	reconciled := func() error {
		_, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: namespace}})
		return err
	}
	is := func() *corev1.ConfigMap {
		m := &corev1.ConfigMap{}
		err := w.direct.Get(t.Context(), types.NamespacedName{Namespace: namespace, Name: closuresName}, m)
		if apierrors.IsNotFound(err) {
			return nil
		}
		w.must(err)
		return m
	}
	w.must(reconciled())
	before := is()
	if before == nil || !strings.Contains(before.Data[closuresKey], "2026-11-27T22:00:00Z") {
		t.Fatalf("%v", before)
	}
	w.now = w.now.Add(time.Minute)
	w.must(reconciled())
	if is().ResourceVersion != before.ResourceVersion {
		t.Error("written though nothing changed")
	}
	w.now = w.now.AddDate(0, 0, 7)
	w.must(reconciled())
	if is().Data[closuresKey] == before.Data[closuresKey] {
		t.Error("a week later it says the same")
	}
	w.must(w.direct.Delete(t.Context(), newSchedule("night", scaling.Spec{})))
	w.must(reconciled())
	w.must(reconciled())
	if is() != nil {
		t.Error("it is there without a schedule")
	}
	another := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: closuresName}, Data: map[string]string{"by": "somebody"}}
	w.must(w.direct.Create(t.Context(), another))
	w.must(w.direct.Create(t.Context(), newSchedule("night", nightly("22:00", "06:00"))))
	if err := reconciled(); err == nil || !strings.Contains(err.Error(), "not ours") {
		t.Errorf("somebody else's ConfigMap: %v", err)
	}
}
