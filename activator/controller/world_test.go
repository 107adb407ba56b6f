package controller

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"aisle.dev/aisle/internal/scaling"
)

const (
	namespace = "shop"
	minScale  = "autoscaling.knative.dev/min-scale"
	maxScale  = "autoscaling.knative.dev/max-scale"
)

var title = types.NamespacedName{Namespace: namespace, Name: "title"}

// eight is a Monday's beginning of the window office.
var eight = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

// world is objects in a fake API server, a clock, and the reconciler.
type world struct {
	t      *testing.T
	client client.WithWatch // as the reconciler has it
	direct client.Client    // as everybody else has it
	events *events.FakeRecorder
	hooks  hooks
	now    time.Time
	r      *reconciler
}

// hooks see what the reconciler writes; an error is what it gets for it.
type hooks struct {
	before, after func(what string, o client.Object, patch []byte) error
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, now: eight.Add(-time.Hour)}
	direct := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&scaling.ScalingSchedule{}, &servingv1.Service{}).
		WithIndex(&scaling.ScalingSchedule{}, byService, func(o client.Object) []string {
			return []string{o.(*scaling.ScalingSchedule).Spec.Service}
		}).Build()
	w.direct = direct
	write := func(what string, o client.Object, patch client.Patch, do func() error) error {
		data, err := patch.Data(o)
		if err != nil {
			return err
		}
		if w.hooks.before != nil {
			if err := w.hooks.before(what, o, data); err != nil {
				return err
			}
		}
		if err := do(); err != nil {
			return err
		}
		if w.hooks.after != nil {
			return w.hooks.after(what, o, data)
		}
		return nil
	}
	w.client = interceptor.NewClient(direct, interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, opts ...client.PatchOption) error {
			return write("object", o, patch, func() error { return c.Patch(ctx, o, patch, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			return write(sub, o, patch, func() error { return c.SubResource(sub).Patch(ctx, o, patch, opts...) })
		},
	})
	w.restart()
	return w
}

// restart forgets what the reconciler has in memory.
func (w *world) restart() {
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		w.t.Fatal(err)
	}
	now := func() time.Time { return w.now }
	w.events = events.NewFakeRecorder(1000)
	w.r = &reconciler{client: w.client, live: w.client, events: w.events, leads: newLeads(now, slog.New(slog.DiscardHandler)), metrics: m, log: slog.New(slog.DiscardHandler), now: now}
}

// settle reconciles until there is nothing left to do at once.
func (w *world) settle() time.Duration {
	w.t.Helper()
	for range 20 {
		result, err := w.r.Reconcile(w.t.Context(), request())
		if err != nil {
			w.t.Fatal(err)
		}
		if result.RequeueAfter == 0 || result.RequeueAfter > 100*time.Millisecond {
			return result.RequeueAfter
		}
	}
	w.t.Fatal("it does not come to rest")
	return 0
}

// at sets the clock and settles.
func (w *world) at(now time.Time) time.Duration {
	w.t.Helper()
	w.now = now
	return w.settle()
}

// bounds gives a Revision's annotations.
func (w *world) bounds(revision string) map[string]string {
	w.t.Helper()
	r := newRevision()
	if err := w.direct.Get(w.t.Context(), types.NamespacedName{Namespace: namespace, Name: revision}, r); err != nil {
		w.t.Fatal(err)
	}
	return r.Annotations
}

func (w *world) want(revision string, annotations map[string]string) {
	w.t.Helper()
	is := maps.Clone(w.bounds(revision))
	delete(is, other)
	if d := cmp.Diff(annotations, is); d != "" && len(annotations)+len(is) > 0 {
		w.t.Fatalf("revision %s at %s (-want +got):\n%s", revision, w.now.Format(time.DateTime), d)
	}
}

func (w *world) schedule(name string) *scaling.ScalingSchedule {
	w.t.Helper()
	var s scaling.ScalingSchedule
	if err := w.direct.Get(w.t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, &s); err != nil {
		w.t.Fatal(err)
	}
	return &s
}

// condition wants a schedule's condition to have a status and a reason.
func (w *world) condition(name, kind, want string) metav1.Condition {
	w.t.Helper()
	c := meta.FindStatusCondition(w.schedule(name).Status.Conditions, kind)
	if c == nil {
		w.t.Fatalf("%s has no condition %s", name, kind)
	}
	if is := fmt.Sprintf("%s %s", c.Status, c.Reason); is != want {
		w.t.Fatalf("%s: %s is %s (%s), want %s", name, kind, is, c.Message, want)
	}
	return *c
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// route gives the service's traffic other shares.
func (w *world) route(shares ...share) {
	w.t.Helper()
	var s servingv1.Service
	w.must(w.direct.Get(w.t.Context(), title, &s))
	s.Status.Traffic = traffic(shares...)
	w.must(w.direct.Status().Update(w.t.Context(), &s))
}

// annotate changes annotations of a Revision, as another would.
func (w *world) annotate(revision string, values annotations) {
	w.t.Helper()
	data, err := values.patch("")
	w.must(err)
	r := newRevision()
	r.Namespace, r.Name = namespace, revision
	w.must(w.direct.Patch(w.t.Context(), r, client.RawPatch(types.MergePatchType, data)))
}

type share struct {
	revision string
	percent  int64
}

func traffic(shares ...share) []servingv1.TrafficTarget {
	var all []servingv1.TrafficTarget
	for _, s := range shares {
		all = append(all, servingv1.TrafficTarget{RevisionName: s.revision, Percent: new(s.percent)})
	}
	return all
}

func newService(shares ...share) *servingv1.Service {
	s := &servingv1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: title.Name}}
	s.Status.Traffic = traffic(shares...)
	return s
}

// other is an annotation that every Revision has and nothing may touch.
const other = "serving.knative.dev/creator"

func revision(number int, annotations map[string]string) *servingv1.Revision {
	all := map[string]string{other: "somebody"}
	maps.Copy(all, annotations)
	return &servingv1.Revision{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: fmt.Sprintf("title-%05d", number), Annotations: all,
		Labels: map[string]string{serving.ServiceLabelKey: title.Name, serving.ConfigurationGenerationLabelKey: fmt.Sprint(number)},
	}}
}

const (
	first  = "title-00001"
	second = "title-00002"
)

func newSchedule(name string, spec scaling.Spec) *scaling.ScalingSchedule {
	spec.Service = title.Name
	return &scaling.ScalingSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Generation: 1}, Spec: spec}
}

// office holds from eight to six on weekdays.
func office(floor, limit int32) scaling.Spec {
	w := scaling.Window{Name: "office", Days: []string{"Mon-Fri"}, Start: "08:00", End: "18:00"}
	if floor > 0 {
		w.Floor = new(floor)
	}
	if limit > 0 {
		w.Cap = new(limit)
	}
	return scaling.Spec{Windows: []scaling.Window{w}}
}

func request() reconcile.Request { return reconcile.Request{NamespacedName: title} }
