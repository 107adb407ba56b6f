package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/activator/controller/controllertest"
	"aisle.dev/aisle/internal/scaling"
)

const (
	manifests = "../../manifests/controller"
	system    = "aisle-system"
	// patience bounds every wait; it is spent by failures alone.
	patience = 5 * time.Minute
)

// apiServer is one that all tests share: it takes seconds to start.
var apiServer = sync.OnceValues(func() (*controllertest.Server, error) {
	dir, err := os.MkdirTemp("", "aisle-apiserver-")
	if err != nil {
		return nil, err
	}
	s, err := controllertest.Start(context.Background(), dir, filepath.Join(manifests, "crd.yaml"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	cleanUp = func() {
		s.Stop()
		_ = os.RemoveAll(dir)
	}
	return s, nil
})

var cleanUp = func() {}

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard()) // what has no logger of the controller's
	code := m.Run()
	cleanUp()
	os.Exit(code)
}

// site is an API server, with an administrator's client.
type site struct {
	t *testing.T
	*controllertest.Server
	client client.Client
}

func newSite(t *testing.T) *site {
	t.Helper()
	s, err := apiServer()
	if errors.Is(err, controllertest.ErrNotBuilt) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(rbacv1.AddToScheme(scheme), coordinationv1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(s.Config(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return &site{t, s, c}
}

// start runs a controller until the test ends, or stop is called.
func (s *site) start(config *rest.Config, now func() time.Time, leader string) (stop func()) {
	s.t.Helper()
	c, err := New(config, Options{Metrics: "0", Probes: "0", LeaderNamespace: leader, Log: slog.New(slog.NewTextHandler(s.t.Output(), nil)), Registry: prometheus.NewRegistry(), Now: now})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("the controller ended: %v", err)
		}
	})
	s.t.Cleanup(stop)
	return stop
}

func (s *site) create(all ...client.Object) {
	s.t.Helper()
	for _, o := range all {
		status := o.DeepCopyObject().(client.Object)
		if err := s.client.Create(s.t.Context(), o); err != nil {
			s.t.Fatalf("%s: %v", o.GetName(), err)
		}
		if service, ok := status.(*servingv1.Service); ok && service.Status.Traffic != nil {
			status.SetResourceVersion(o.GetResourceVersion())
			if err := s.client.Status().Update(s.t.Context(), status); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// namespace makes one, which is emptied when the test ends: nobody here removes
// what is in a namespace that is deleted.
func (s *site) namespace(name string) {
	s.t.Helper()
	err := s.client.Create(s.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx := context.Background()
		for _, o := range []client.Object{&scaling.ScalingSchedule{}, &servingv1.Service{}, newRevision(), &corev1.Pod{}, &corev1.ConfigMap{}, &coordinationv1.Lease{}} {
			if err := s.client.DeleteAllOf(ctx, o, client.InNamespace(name), client.GracePeriodSeconds(0)); err != nil {
				s.t.Error(err)
			}
		}
		var left scaling.ScalingScheduleList // whose controller is gone
		if err := s.client.List(ctx, &left, client.InNamespace(name)); err != nil {
			s.t.Error(err)
		}
		for i := range left.Items {
			o := &left.Items[i]
			was := o.DeepCopy()
			o.Finalizers = nil
			if err := s.client.Patch(ctx, o, client.MergeFrom(was)); client.IgnoreNotFound(err) != nil {
				s.t.Error(err)
			}
		}
	})
}

func (s *site) await(what string, met func() (complaint string)) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		complaint := met()
		if complaint == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			s.t.Fatalf("%s: not within %s: %s", what, patience, complaint)
		}
	}
}

// awaitBounds waits until a Revision has these, and keeps its other annotation.
func (s *site) awaitBounds(name types.NamespacedName, min, max string) {
	s.t.Helper()
	s.await(fmt.Sprintf("bounds %q and %q on %s", min, max, name), func() string {
		r := newRevision()
		if err := s.client.Get(s.t.Context(), name, r); err != nil {
			return err.Error()
		}
		if a := r.Annotations; a[minScale] != min || a[maxScale] != max || a[other] == "" {
			return fmt.Sprint(a)
		}
		return ""
	})
}

// in moves an object, made for the namespace shop, to a service of another.
func in[T client.Object](namespace string, o T) T {
	o.SetNamespace(namespace)
	return o
}

// withSpec completes a Revision, or a Service, to what the API server takes.
func withSpec[T *servingv1.Revision | *servingv1.Service](o T) T {
	container := servingv1.RevisionSpec{}
	container.Containers = []corev1.Container{{Image: "example.test/image"}}
	switch o := any(o).(type) {
	case *servingv1.Revision:
		o.Spec = container
	case *servingv1.Service:
		o.Spec.Template.Spec = container
	}
	return o
}

// recorder notes what is asked of an API server, as RBAC names it.
type recorder struct {
	rest http.RoundTripper

	mu      sync.Mutex
	asked   map[string]int
	refused []string
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.rest.RoundTrip(req)
	what := asked(req)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[what]++
	if err == nil && resp.StatusCode == http.StatusForbidden {
		r.refused = append(r.refused, what)
	}
	return resp, err
}

// requests is how many were made; leases aside.
func (r *recorder) requests() (all int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for what, n := range r.asked {
		if !strings.Contains(what, "leases") {
			all += n
		}
	}
	return all
}

// record makes a config's requests be noted.
func record(config *rest.Config) *recorder {
	r := &recorder{asked: map[string]int{}}
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		r.rest = rt
		return r
	})
	return r
}

// asked is "VERB GROUP/RESOURCE[/SUBRESOURCE] [NAME]", and "" for what needs no
// rule.
func asked(req *http.Request) string {
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	group := ""
	switch {
	case parts[0] == "api" && len(parts) > 2:
		parts = parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		group, parts = parts[1], parts[3:]
	default:
		return "" // discovery
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		parts = parts[2:]
	}
	verb := map[string]string{"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get"}[req.Method]
	if verb == "get" && len(parts) == 1 {
		verb = "list"
		if req.URL.Query().Get("watch") == "true" {
			verb = "watch"
		}
	}
	what, name := group+"/"+parts[0], ""
	if len(parts) > 1 {
		name = " " + parts[1]
	}
	if len(parts) > 2 {
		what += "/" + parts[2]
	}
	return verb + " " + what + name
}

// The role in manifests allows what the controller asks for in a schedule's
// life, and nothing besides. It runs as the role's account here.
func TestRole(t *testing.T) {
	s := newSite(t)
	s.namespace(system)
	role := filepath.Join(manifests, "role.yaml")
	if err := controllertest.Apply(t.Context(), s.client, role); err != nil {
		t.Fatal(err)
	}
	const place = "role"
	s.namespace(place)
	config := s.As(system, ourName)
	r := record(config)
	s.start(config, nil, system)

	always := scaling.Spec{ReadyBy: true, Windows: []scaling.Window{{Hold: scaling.Hold{Floor: new(int32(2)), Cap: new(int32(4))}}}}
	s.create(in(place, withSpec(newService(share{first, 100}))), in(place, withSpec(revision(1, map[string]string{maxScale: "9"}))),
		in(place, withSpec(revision(2, nil))), in(place, newSchedule("always", always)))
	s.awaitBounds(types.NamespacedName{Namespace: place, Name: first}, "2", "4")

	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: place, Name: "pod", Labels: map[string]string{serving.ServiceLabelKey: title.Name, serving.RevisionLabelKey: first}}}
	pod.Spec.Containers = []corev1.Container{{Name: "user-container", Image: "example.test/image"}}
	s.create(pod)
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
	if err := s.client.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	s.await("a learned lead time", func() string {
		var is scaling.ScalingSchedule
		err := s.client.Get(t.Context(), types.NamespacedName{Namespace: place, Name: "always"}, &is)
		if err != nil || is.Status.Lead == nil || is.Status.Lead.Source != "learned" || is.Status.Starts == "" {
			return fmt.Sprint(err, is.Status)
		}
		return ""
	})

	var service servingv1.Service
	if err := s.client.Get(t.Context(), types.NamespacedName{Namespace: place, Name: title.Name}, &service); err != nil {
		t.Fatal(err)
	}
	service.Status.Traffic = traffic(share{second, 100})
	if err := s.client.Status().Update(t.Context(), &service); err != nil {
		t.Fatal(err)
	}
	s.awaitBounds(types.NamespacedName{Namespace: place, Name: second}, "2", "4")
	s.awaitBounds(types.NamespacedName{Namespace: place, Name: first}, "", "9")

	closing := in(place, newSchedule("closing", scaling.Spec{Windows: []scaling.Window{{Hold: scaling.Hold{Closed: true}}}}))
	s.create(closing)
	s.awaitBounds(types.NamespacedName{Namespace: place, Name: second}, "0", "4")
	said := func() string {
		var m corev1.ConfigMap
		_ = s.client.Get(t.Context(), types.NamespacedName{Namespace: place, Name: closuresName}, &m)
		return m.Data[closuresKey]
	}
	s.await("closures", func() string {
		if strings.HasPrefix(said(), `{"`+place+`/title":[[`) {
			return ""
		}
		return said()
	})
	forever := said() // before the change: what follows from it may come at once
	was := closing.DeepCopy()
	closing.Spec.Until = new(metav1.NewTime(time.Now().Add(time.Hour)))
	if err := s.client.Patch(t.Context(), closing, client.MergeFrom(was)); err != nil {
		t.Fatal(err)
	}
	s.await("other closures", func() string {
		if said() != forever {
			return ""
		}
		return forever
	})
	for _, name := range []string{"closing", "always"} {
		if err := s.client.Delete(t.Context(), in(place, newSchedule(name, scaling.Spec{}))); err != nil {
			t.Fatal(err)
		}
		s.await(name+" to go", func() string {
			err := s.client.Get(t.Context(), types.NamespacedName{Namespace: place, Name: name}, &scaling.ScalingSchedule{})
			if apierrors.IsNotFound(err) {
				return ""
			}
			return fmt.Sprint(err)
		})
	}
	s.awaitBounds(types.NamespacedName{Namespace: place, Name: second}, "", "")
	s.await("no closures", func() string { return said() })
	var rules []rbacv1.PolicyRule
	text, err := os.ReadFile(role)
	if err != nil {
		t.Fatal(err)
	}
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		var o struct{ Rules []rbacv1.PolicyRule }
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatal(err)
		}
		rules = append(rules, o.Rules...)
	}
	s.await("each rule to be used", func() string { return r.unused(rules) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.refused) > 0 {
		t.Errorf("the role does not allow %q", r.refused)
	}
}

// unused names what rules allow and nothing asked for.
func (r *recorder) unused(rules []rbacv1.PolicyRule) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, rule := range rules {
		for _, verb := range rule.Verbs {
			allowed := verb + " " + rule.APIGroups[0] + "/" + rule.Resources[0]
			// Where the API server can, a list is the beginning of a watch; others are
			// asked for it.
			used := verb == "list"
			for what := range r.asked {
				is, name, _ := strings.Cut(strings.TrimPrefix(what, verb+" "), " ")
				used = used || strings.HasPrefix(what, verb+" ") && is == rule.APIGroups[0]+"/"+rule.Resources[0] &&
					(len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, name))
			}
			if !used {
				all = append(all, allowed)
			}
		}
	}
	return strings.Join(all, ", ")
}

// Many services whose windows begin at once: each is set, with a handful of
// requests; before and after it nothing is asked. hack/bench has a thousand.
func TestManySchedules(t *testing.T) {
	s := newSite(t)
	const place, count = "many", 200
	s.namespace(place)
	var wait sync.WaitGroup
	for worker := range 8 {
		wait.Go(func() {
			for i := worker; i < count; i += 8 {
				name := fmt.Sprintf("s%04d", i)
				service, rev, sched := withSpec(newService(share{name, 100})), withSpec(revision(1, nil)), newSchedule(name, office(2, 4))
				service.Name, rev.Name, sched.Spec.Service = name, name, name
				rev.Labels[serving.ServiceLabelKey] = name
				s.create(in(place, service), in(place, rev), in(place, sched))
			}
		})
	}
	wait.Wait()
	clock := &shifted{}
	clock.set(eight.Add(-30 * time.Second))
	config := s.Config()
	r := record(config)
	s.start(config, clock.now, "")
	s.await("all to be looked at", func() string {
		var all scaling.ScalingScheduleList
		if err := s.client.List(t.Context(), &all, client.InNamespace(place)); err != nil {
			return err.Error()
		}
		return missing(all.Items, func(o scaling.ScalingSchedule) bool { return o.Status.Revision != "" && o.Status.Next != nil })
	})
	asked, since := r.requests(), time.Now()
	s.await("a second without a request", func() string {
		if n := r.requests(); n != asked {
			asked, since = n, time.Now()
		}
		if time.Since(since) < time.Second {
			return fmt.Sprintf("%d requests", asked)
		}
		return ""
	})
	s.await("the window", func() string {
		if now := clock.now(); now.Before(eight) {
			if n := r.requests(); n != asked {
				t.Fatalf("%d requests before the window", n-asked)
			}
			return now.Format(time.TimeOnly)
		}
		return ""
	})
	s.await("bounds on all", func() string {
		var all servingv1.RevisionList
		if err := s.client.List(t.Context(), &all, client.InNamespace(place)); err != nil {
			return err.Error()
		}
		return missing(all.Items, func(o servingv1.Revision) bool {
			return o.Annotations[minScale] == "2" && o.Annotations[maxScale] == "4"
		})
	})
	t.Logf("all have their bounds %s after the window's beginning", clock.now().Sub(eight))
	asked, since = 0, time.Now()
	s.await("rest", func() string {
		if n := r.requests(); n != asked {
			asked, since = n, time.Now()
		}
		if time.Since(since) < time.Second {
			return fmt.Sprintf("%d requests", asked)
		}
		return ""
	})
	// Twice a look at schedule and Revision and the schedule's status, once its
	// finalizer, what was found, the Revision's bounds and an Event; and a little
	// more where the cache was behind.
	if n := r.requests(); n > 12*count {
		t.Errorf("%d requests for %d services", n, count)
	}
}

// missing says of how many something is not so; empty: of none.
func missing[T any](all []T, is func(T) bool) string {
	n := 0
	for _, o := range all {
		if !is(o) {
			n++
		}
	}
	if n == 0 && len(all) > 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d not", n, len(all))
}

// shifted is the machine's clock, set to another time.
type shifted struct {
	mu sync.Mutex
	by time.Duration
}

func (c *shifted) set(to time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by = time.Until(to)
}

func (c *shifted) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.by)
}
