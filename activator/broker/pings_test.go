package broker

import (
	"strings"
	"testing"
	"time"

	"knative.dev/eventing/pkg/apis/sources/v1"

	"aisle.dev/aisle/internal/client"
)

const everySecond = `
apiVersion: sources.knative.dev/v1
kind: PingSource
metadata: {name: clock, namespace: default}
spec:
  schedule: "* * * * * *"
  timezone: UTC
  contentType: application/json
  data: '{"run": "now"}'
  sink: `

const toShop = "{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: shop}}"

func TestPingSourceToABroker(t *testing.T) {
	manifests := []string{shopBroker, triggerTo("sort", ""), everySecond + toShop}
	h := newHarness(t, Options{}, manifests...)
	take, got := collect()
	h.subscribe("sort"+host, take)
	first := received(t, got)
	if first.Type() != v1.PingSourceEventType || first.Source() != "/apis/v1/namespaces/default/pingsources/clock" || string(first.Data()) != `{"run": "now"}` || first.DataContentType() != "application/json" {
		t.Errorf("got %v", first)
	}
	h.stop()
	h.start(manifests...)
	ids := map[string]time.Time{first.ID(): first.Time()}
	for range 2 {
		ev := received(t, got)
		if at, known := ids[ev.ID()]; known && !at.Equal(ev.Time()) {
			t.Errorf("the ticks of %s and %s have one id", at, ev.Time())
		}
		ids[ev.ID()] = ev.Time()
	}
	list := ask[struct{ Items []client.Ticks }](h, "/v1/events/pingsources").Items
	if len(list) != 1 || list[0].Name != "default/clock" || list[0].Last.IsZero() || list[0].Trouble != "" {
		t.Errorf("listed is %+v", list)
	}
}

func TestPingSourceToAService(t *testing.T) {
	h := newHarness(t, Options{}, everySecond+"{uri: \"http://far.example/in\"}")
	take, got := collect()
	h.subscribe("far.example", take)
	if ev := received(t, got); ev.Type() != v1.PingSourceEventType {
		t.Errorf("got %v", ev)
	}
}

// TestTickTwice: a tick that is sent again because its sending was forgotten
// is no second event.
func TestTickTwice(t *testing.T) {
	manifests := []string{shopBroker, everySecond + toShop}
	h := newHarness(t, Options{}, shopBroker)
	source, err := openPing(parse(t, manifests...)[1].(*v1.PingSource))
	if err != nil {
		t.Fatal(err)
	}
	ev := source.Event(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC))
	for range 2 {
		if err := h.sendPing(t.Context(), source, ev.Clone()); err != nil {
			t.Fatal(err)
		}
		h.stop()
		h.start(shopBroker)
	}
	if last, err := h.Last(shop); err != nil || last != 1 {
		t.Errorf("%d events are stored, %v", last, err)
	}
}

func TestPingSourceWithoutItsBroker(t *testing.T) {
	h := newHarness(t, Options{}, everySecond+toShop)
	for deadline := time.Now().Add(time.Minute); ; <-time.After(10 * time.Millisecond) {
		if s, _ := h.pings.Status("default/clock"); strings.Contains(s.Trouble, "no Broker default/shop") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is said of the missing Broker")
		}
	}
}

func TestParsePingSource(t *testing.T) {
	for _, tt := range []struct{ manifest, says string }{
		{strings.Replace(strings.Replace(everySecond+toShop, "* * * * * *", "TZ=0", 1), "timezone: UTC", "", 1), "ends after its zone"},
		{strings.Replace(everySecond+toShop, "* * * * * *", "@every 5m", 1), "no such descriptor"},
		{everySecond + "{ref: {apiVersion: v1, kind: ConfigMap, name: x}}", "spec.sink"},
	} {
		o, findings := Parse(object(t, tt.manifest))
		if o != nil || len(findings) != 1 || !strings.Contains(findings[0].Reason, tt.says) {
			t.Errorf("%s: %v; want it to say %q", tt.manifest, findings, tt.says)
		}
	}
}

func TestPingSourceStatus(t *testing.T) {
	h := newHarness(t, Options{}, shopBroker)
	o := parse(t, everySecond+toShop)[0].(*v1.PingSource)
	h.Tell([]Object{o})
	if !o.Status.IsReady() || o.Status.SinkURI.String() != "http://"+IngressHost+"/default/shop" {
		t.Errorf("its status is %+v", o.Status)
	}
}
