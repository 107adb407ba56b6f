package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client/objects"
)

// becomesReady is whether objects of a kind have a Ready condition.
func becomesReady(k objects.Kind) bool {
	return slices.Contains([]string{objects.Service.Full(), objects.Broker.Full(), objects.Trigger.Full(), objects.PingSource.Full(), objects.Schedule.Full()}, k.Full())
}

var errAwaited = errors.New("not ready in time")

// await waits until all objects that can be are Ready, says what it waits for,
// and why one cannot become so.
func (a *app) await(ctx context.Context, p place, all []object, timeout time.Duration) error {
	type where struct{ kind, namespace string }
	waited := map[where]*awaited{}
	for _, o := range all {
		if !becomesReady(o.kind) {
			continue
		}
		at := where{o.kind.Full(), o.GetNamespace()}
		if waited[at] == nil {
			waited[at] = &awaited{kind: o.kind, namespace: o.GetNamespace(), left: map[string]string{}}
		}
		waited[at].left[o.GetName()] = notSeen
	}
	within, cancel := context.WithTimeoutCause(ctx, timeout, errAwaited)
	defer cancel()
	group, following := errgroup.WithContext(within)
	for _, w := range waited {
		group.Go(func() error { return w.follow(following, p, a.err) })
	}
	err := group.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil || !errors.Is(context.Cause(within), errAwaited) {
		return err
	}
	var late []string
	for _, w := range waited {
		for name, why := range w.left {
			late = append(late, fmt.Sprintf("%s/%s: %s", w.kind.Singular(), name, why))
		}
	}
	slices.Sort(late)
	return fmt.Errorf("%w (--timeout %v):\n  %s\nsee: aisle describe KIND NAME, aisle logs NAME", errAwaited, timeout, strings.Join(late, "\n  "))
}

const notSeen = "nothing has looked at it yet"

// awaited are objects of one kind and namespace that are not Ready yet.
type awaited struct {
	kind      objects.Kind
	namespace string
	left      map[string]string // why not, by name
}

var errAllReady = errors.New("all are ready")

// follow owns left until it returns: nil once nothing is left.
func (w *awaited) follow(ctx context.Context, p place, tell screen.Screen) error {
	err := objects.Follow(ctx, p.Objects(), w.kind, w.namespace, "", func(how watch.EventType, raw *json.RawMessage) error {
		if raw == nil {
			return nil
		}
		o, err := objects.Decode(w.kind, *raw)
		if err != nil {
			return err
		}
		return w.saw(how, o, tell)
	})
	if errors.Is(err, errAllReady) {
		return nil
	}
	if f, ok := errors.AsType[*failedService](err); ok {
		return fmt.Errorf("%w%s; see: aisle describe service %s", err, codeOf(ctx, p, f.service), f.service.GetName())
	}
	return err
}

// failedService is a Service that says that it cannot become ready.
type failedService struct{ service *unstructured.Unstructured }

func (f *failedService) Error() string {
	ready, _ := readiness(f.service)
	return fmt.Sprintf("%s cannot become ready: %s", title(f.service), strings.TrimSuffix(because(ready), "."))
}

// codeOf is the reason of the Service's newest revision, such as ExitCode1,
// which the Service's own condition leaves out.
func codeOf(ctx context.Context, p place, service *unstructured.Unstructured) string {
	name, _, _ := unstructured.NestedString(service.Object, "status", "latestCreatedRevisionName") // none: nothing is found
	raw, err := objects.Get[json.RawMessage](ctx, p.Objects(), objects.Revision, service.GetNamespace(), name)
	if err != nil {
		return "" // there is more to say of it, that is all
	}
	r, err := objects.Decode(objects.Revision, *raw)
	if err != nil {
		return ""
	}
	ready, ok := readiness(r)
	if !ok || ready.Reason == "" {
		return ""
	}
	return " (" + ready.Reason + ")"
}

func (w *awaited) saw(how watch.EventType, o *unstructured.Unstructured, tell screen.Screen) error {
	before, waiting := w.left[o.GetName()]
	if !waiting {
		return nil
	}
	if how == watch.Deleted {
		return fmt.Errorf("%s was deleted while it was waited for", title(o))
	}
	ready, ok := readiness(o)
	why := because(ready)
	switch {
	case ready.Status == "True":
		delete(w.left, o.GetName())
		tell.Printf("%s is ready\n", screen.Clean(title(o)))
		if len(w.left) == 0 {
			return errAllReady
		}
		return nil
	case ready.Status == "False" && w.kind.Full() == objects.Service.Full():
		// What others wait for may yet come; a Service says Unknown while it tries.
		return &failedService{o}
	case !ok:
		why = notSeen
	case why == "":
		why = "its Ready condition is " + ready.Status
	}
	if w.left[o.GetName()] = why; why != before {
		tell.Printf("%s waits: %s\n", screen.Clean(title(o)), screen.Clean(why))
	}
	return nil
}
