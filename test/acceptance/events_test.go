package acceptance

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/product"

	ce "github.com/cloudevents/sdk-go/v2/event"
)

// publish goes through the API server, so that the broker need not be reachable
// from here.
func (c *cluster) publish(ctx context.Context, broker string, ev ce.Event) (int, error) {
	header, body, err := event.Encode(ev, false)
	if err != nil {
		return 0, err
	}
	url := c.server + "/api/v1/namespaces/knative-eventing/services/http:broker-ingress:80/proxy/" + c.namespace + "/" + broker
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header = header
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	patient := *c.http
	patient.Timeout = 0 // the in-memory broker answers after delivery
	return status(&patient, req)
}

func (e *engineProcess) publish(ctx context.Context, broker string, ev ce.Event) (int, error) {
	header, body, err := event.Encode(ev, false)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+e.address()+"/"+e.namespace+"/"+broker, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header, req.Host = header, "broker-ingress.knative-eventing.localhost"
	return status(http.DefaultClient, req)
}

func status(c *http.Client, req *http.Request) (int, error) {
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// published sends an event until the broker has it.
func published(ctx context.Context, p place, broker string, ev ce.Event) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return retried(ctx, func() error {
		status, err := p.publish(ctx, broker, ev)
		if err == nil && status != http.StatusAccepted {
			err = fmt.Errorf("the broker answered %d", status)
		}
		return err
	})
}

// newEvent is an event of the suite's own, which the fixture takes its time for.
func newEvent(t *testing.T, typ, id string, takes time.Duration) ce.Event {
	t.Helper()
	ev, err := event.New("dev.aisle.test."+typ, "/acceptance", id, "", map[string]string{"id": id})
	if err != nil {
		t.Fatal(err)
	}
	ev.SetExtension("waitms", fmt.Sprint(takes.Milliseconds()))
	return ev
}

// awaitRoute sends events to the suite's broker until one comes out by the
// Trigger of that type. A cluster's in-memory broker answers 202, and drops the
// event, for a moment after a Trigger is said to be ready.
func awaitRoute(t *testing.T, p place, typ, service string) {
	t.Helper()
	p.objects().awaitReadyObject(t, "Trigger", typ)
	asked := call(t, p)
	await(t, "an event to come by the Trigger "+typ, func() string {
		if _, err := p.publish(t.Context(), "default", newEvent(t, typ, "probe", 0)); err != nil {
			return err.Error()
		}
		if len(deliveries(t, asked, service, typ)) == 0 {
			return "none has come"
		}
		return ""
	})
}

// received is a delivery to the fixture.
type received struct {
	Query, ID, Type, Data string
	Extensions            map[string]any
}

// deliveries are those to a service of the suite by one Trigger, which its
// query names.
func deliveries(t *testing.T, c *caller, service, by string) []received {
	t.Helper()
	var all []received
	if err := json.Unmarshal([]byte(c.get(t, service, "/events").body), &all); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(r received) bool { return !strings.Contains(r.Query+"&", "by="+by+"&") })
}

// added has objects for the length of a test.
func (c *api) added(t *testing.T, objects []map[string]any) {
	t.Helper()
	if err := c.apply(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, o := range objects {
			meta := o["metadata"].(map[string]any)
			namespace, _ := meta["namespace"].(string)
			at := *c
			at.namespace = cmp.Or(namespace, c.namespace)
			if err := at.remove(context.Background(), o["kind"].(string), meta["name"].(string), ""); err != nil {
				t.Error(err)
			}
		}
	})
}

// moved gives objects of the suite's namespaces in another one.
func moved(t *testing.T, objects []map[string]any, namespace string) []map[string]any {
	t.Helper()
	for _, o := range objects {
		o["metadata"].(map[string]any)["namespace"] = namespace
	}
	text, err := json.Marshal(objects)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte("."+suiteNamespace+".svc"), []byte("."+namespace+".svc"))
	var all []map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// A clock's event becomes a product, the shipped Trigger brings it to the
// composer, and the composer's answer comes by the broker to a second
// subscriber.
func TestBrokerCarriesProducts(t *testing.T) {
	t.Parallel()
	shop := products.get(t)
	objects, err := rendered("testdata/clock", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := call(t, shared)
	if shared.engine() != nil { // there the shop is an engine of its own
		c = call(t, shop)
		objects = moved(t, objects, shop.objects().namespace)
		if err := shop.objects().changed(t.Context(), "listener", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	shop.objects().added(t, objects)
	for kind, names := range map[string][]string{"Broker": {"default", "dead-letters"}, "Trigger": {"products", "clock", "categories"}, "PingSource": {"clock"}} {
		for _, name := range names {
			shop.objects().awaitReadyObject(t, kind, name)
		}
	}
	own, err := event.NewProduct("/acceptance", "own", product.Product{ID: "sent", Title: "Women Silver Wrist Watch"})
	if err != nil {
		t.Fatal(err)
	}
	var sent time.Time
	for _, id := range []string{"sent", "from-the-clock"} {
		await(t, "the category of the product "+id, func() string {
			// Again after a while: see awaitRoute. The clock repeats its own.
			if id == "sent" && time.Since(sent) > 2*time.Second {
				if err := published(t.Context(), shop, "default", own); err != nil {
					return err.Error()
				}
				sent = time.Now()
			}
			for _, r := range deliveries(t, c, "listener", "categories") {
				var got category.Result
				if err := json.Unmarshal([]byte(r.Data), &got); err != nil || r.Type != event.TypeCategory {
					t.Fatalf("%+v: %v", r, err)
				}
				if got.ID == id && got.Category != nil && got.Category.Label == "Watches" && r.Extensions["aislestatus"] == string(got.Status) && r.Extensions["causationid"] != "" {
					return ""
				}
			}
			return "it has not come"
		})
	}
}

// What a subscriber refuses goes to the dead-letter sink, which is told why: a
// failure after repeats, bad input at once.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	c := call(t, shared)
	for trigger, want := range map[string]struct {
		code       string
		deliveries int
	}{"failed": {"500", 3}, "refused": {"422", 1}} {
		t.Run(trigger, func(t *testing.T) {
			t.Parallel()
			awaitRoute(t, shared, trigger, "listener")
			// Each try is an event of its own: one that was not answered 202 may
			// have been delivered for all that.
			var id string
			tries := 0
			await(t, "the broker to take the event", func() string {
				tries++
				id = fmt.Sprintf("%s-%d", trigger, tries)
				if status, err := shared.publish(t.Context(), "default", newEvent(t, trigger, id, 0)); err != nil || status != http.StatusAccepted {
					return fmt.Sprintf("%d, %v", status, err)
				}
				return ""
			})
			await(t, "the dead letter", func() string {
				for _, r := range deliveries(t, c, "listener", "dead-letter") {
					if r.ID != id {
						continue
					}
					dest, _ := r.Extensions["knativeerrordest"].(string)
					data, _ := r.Extensions["knativeerrordata"].(string)
					said, err := base64.StdEncoding.DecodeString(data)
					if r.Extensions["knativeerrorcode"] != want.code || !strings.Contains(dest, "by="+trigger) || err != nil || string(said) != "refused as told" {
						t.Errorf("the dead letter says %v", r.Extensions)
					}
					return ""
				}
				return "it has not come"
			})
			delivered := 0
			for _, r := range deliveries(t, c, "listener", trigger) {
				if r.ID == id {
					delivered++
				}
			}
			if delivered != want.deliveries {
				t.Errorf("it was delivered %d times, want %d", delivered, want.deliveries)
			}
		})
	}
}

// A pod is killed while it has an event: the broker delivers it again. A cluster's,
// which keeps it in memory, tells its sender 202 only then.
func TestEventOutlivesItsPod(t *testing.T) {
	t.Parallel()
	c := call(t, shared)
	awaitRoute(t, shared, "killed", "receiver")
	came := func() bool {
		return slices.ContainsFunc(deliveries(t, c, "receiver", "killed"), func(r received) bool { return r.ID == "killed" })
	}
	sent := make(chan error, 1)
	ev := newEvent(t, "killed", "killed", 20*time.Second)
	go func() { sent <- published(t.Context(), shared, "default", ev) }()
	await(t, "the event to be with a pod", func() string {
		if !came() {
			return "it has not come"
		}
		return ""
	})
	awaitReady(t, shared, "receiver", 1)
	first := pods(t, shared, "receiver")[0]
	killPod(t, shared, first)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	// The second pod knows nothing of what came to the first.
	if shared.onCluster() != nil && !came() {
		t.Error("the sender was told 202 before the event came to the second pod")
	}
	await(t, "the killed pod to be gone", func() string {
		for _, p := range pods(t, shared, "receiver") {
			if p.Name == first.Name {
				return fmt.Sprintf("%+v", p)
			}
		}
		return ""
	})
	await(t, "the event to come to the second pod", func() string {
		if !came() {
			return "it has not come"
		}
		return ""
	})
}

// The broker's dispatcher, which holds events in memory, is killed while it has
// some. What was answered 202 has been delivered; what was not is lost unless
// its sender repeats it. (Not in parallel: the dispatcher is everybody's.)
func TestBrokerKilled(t *testing.T) {
	k := oursOnly(t, shared, "there the broker is in the engine, which hack/chaos kills")
	c := call(t, k)
	awaitReady(t, k, "listener", 1)
	awaitRoute(t, k, "counted", "listener")
	const n = 20
	ids := func(prefix string) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("%s-%d", prefix, i))
		}
		return all
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var mu sync.Mutex
	told := map[string]bool{} // guarded by mu: ids whose sender was told 202
	var senders sync.WaitGroup
	for _, id := range ids("once") {
		ev := newEvent(t, "counted", id, 2*time.Second)
		senders.Go(func() {
			status, err := k.publish(ctx, "default", ev)
			mu.Lock()
			defer mu.Unlock()
			told[id] = err == nil && status == http.StatusAccepted
		})
	}
	for _, id := range ids("repeated") {
		ev := newEvent(t, "counted", id, 2*time.Second)
		senders.Go(func() {
			err := published(ctx, k, "default", ev)
			mu.Lock()
			defer mu.Unlock()
			told[id] = err == nil
		})
	}
	await(t, "events to be on their way", func() string {
		if n := len(deliveries(t, c, "listener", "counted")); n < 5 {
			return fmt.Sprintf("%d have come", n)
		}
		return ""
	})
	core := k.in("knative-eventing")
	dispatchers := slices.DeleteFunc(podsOf(t, core), func(p client.Pod) bool { return !strings.HasPrefix(p.Name, "imc-dispatcher-") })
	if len(dispatchers) == 0 {
		t.Fatal("there is no dispatcher to kill")
	}
	killed := time.Now()
	for _, p := range dispatchers {
		killPod(t, core, p)
	}
	senders.Wait()
	came := map[string]int{}
	for _, r := range deliveries(t, c, "listener", "counted") {
		came[r.ID]++
	}
	for _, prefix := range []string{"once", "repeated"} {
		var accepted, lost, twice, gone int
		for _, id := range ids(prefix) {
			switch {
			case told[id]:
				accepted++
				if came[id] == 0 {
					lost++
				}
			case came[id] == 0:
				gone++
			}
			if came[id] > 1 {
				twice++
			}
		}
		t.Logf("sent %s: of %d events the sender was told 202 for %d, of which %d were lost; %d of the others never came; %d came more than once; after %s",
			prefix, n, accepted, lost, gone, twice, time.Since(killed).Round(time.Second))
		if lost > 0 {
			t.Errorf("%d events that the broker had answered 202 were lost", lost)
		}
		if prefix == "repeated" && accepted != n {
			t.Errorf("%d of %d events were taken in the end", accepted, n)
		}
	}
}
