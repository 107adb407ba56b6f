package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/knative/knativetest"
	"aisle.dev/aisle/internal/problem"
)

// reconcile is what a controller makes of an applied object: ready at once, but
// for those named broken and slow.
func reconcile(o knativetest.Object) knativetest.Object {
	meta := o["metadata"].(knativetest.Object)
	ready := knativetest.Object{"type": "Ready", "status": "True"}
	switch meta["name"] {
	case "broken":
		ready = knativetest.Object{"type": "Ready", "status": "False", "reason": "RevisionFailed", "message": "exit code 1: no model"}
	case "slow":
		ready = knativetest.Object{"type": "Ready", "status": "Unknown", "reason": "Deploying"}
	case "unseen":
		return o
	}
	o["status"] = knativetest.Object{"observedGeneration": meta["generation"], "conditions": []any{ready}}
	return o
}

// engineObjects are what the engine of the scripts keeps.
const engineObjects = `
{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: composer, namespace: default, labels: {part: composer}},
 status: {conditions: [{type: Ready, status: "True"}], traffic: [{revisionName: composer-00001, percent: 100}]}}
---
{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: title, namespace: other},
 status: {conditions: [{type: Ready, status: "False", reason: RevisionFailed, message: its pod ended with exit code 1}],
 traffic: [{revisionName: title-00001, percent: 90}, {revisionName: title-00002, percent: 10, tag: canary}]}}
---
{apiVersion: serving.knative.dev/v1, kind: Revision, metadata: {name: title-00001, namespace: default, labels: {serving.knative.dev/service: title}},
 status: {conditions: [{type: Ready, status: "True"}]}}
---
{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: {name: default, namespace: default},
 spec: {delivery: {deadLetterSink: {uri: "http://dead.test"}}},
 status: {address: {url: "http://broker-ingress/default/default"}, conditions: [{type: Ready, status: "True"}]}}
---
{apiVersion: eventing.knative.dev/v1, kind: Trigger, metadata: {name: on-product, namespace: default},
 spec: {broker: default, filter: {attributes: {type: dev.aisle.product.v1}}, subscriber: {ref: {kind: Service, name: composer}}},
 status: {conditions: [{type: Ready, status: "False", reason: SubscriberNotFound, message: no Service composer}]}}
---
{apiVersion: sources.knative.dev/v1, kind: PingSource, metadata: {name: nightly, namespace: default},
 spec: {schedule: "0 3 * * *", timezone: Europe/Berlin, sink: {ref: {kind: Broker, name: default}}}}
---
{apiVersion: v1, kind: Secret, metadata: {name: key, namespace: default}, type: Opaque, data: {token: c2VjcmV0}}
`

// serveEngine answers on the socket as an engine with fixed services.
func serveEngine(env *testscript.Env, socket, address string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	since := time.Now().Add(-3 * time.Hour) // shown to the minute
	answers := map[string]any{
		"/v1/version": client.Version{Version: "test", Engine: "local", Address: address, DataDir: "/state", PID: 7},
		"/v1/services": []client.Service{
			{Namespace: "default", Name: "composer", URL: "http://composer.default.localhost:8080", LatestRevision: "composer-00001", Ready: true, Pods: 1},
			{Namespace: "other", Name: "title", URL: "http://title.other.localhost:8080", LatestRevision: "title-00002", Reason: "its pod ended with exit code 1"},
		},
		"/v1/revisions": []client.Revision{{Namespace: "default", Name: "title-00001", Service: "title", Want: 2, Ready: 1, Starting: 1, MaxScale: 4, Concurrency: 12.5, Waiting: 3, Why: "12.5 requests for 10 a pod", Since: since}},
		"/v1/pods":      []client.Pod{},
	}
	objects := &knativetest.Server{Reconcile: reconcile, Without: []string{"networking.k8s.io", "apps"}}
	for doc := range strings.SplitSeq(engineObjects, "\n---\n") {
		var o knativetest.Object
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			return err
		}
		group, _, core := strings.Cut(o["apiVersion"].(string), "/")
		if !core {
			group = ""
		}
		objects.Put(group+"/"+strings.ToLower(o["kind"].(string))+"s", o)
	}
	events := new(fakeEvents)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/api"):
			objects.ServeHTTP(w, r)
			return
		case strings.HasPrefix(r.URL.Path, "/v1/events/"):
			events.ServeHTTP(w, r)
			return
		}
		if name, ok := strings.CutPrefix(r.URL.Path, "/v1/logs/"); ok {
			if name != "title" {
				problem.Write(w, problem.New(http.StatusNotFound, "no service and no pod is named %s", name))
				return
			}
			fmt.Fprintf(w, "ready %s %s\n", r.FormValue("kind"), r.FormValue("tailLines"))
			return
		}
		answer, ok := answers[r.URL.Path]
		if !ok {
			problem.Write(w, problem.New(http.StatusNotFound, "no %s", r.URL.Path))
			return
		}
		_ = json.NewEncoder(w).Encode(answer) // the caller has gone
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	env.Defer(func() {
		_ = srv.Close()
		<-served
	})
	return nil
}

// fakeEvents has two dead letters, what waits, two results and one explanation.
type fakeEvents struct {
	mu   sync.Mutex // guards gone
	gone map[string]bool
}

func (f *fakeEvents) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone == nil {
		f.gone = map[string]bool{}
	}
	at := time.Now().Add(-50 * time.Hour) // shown to the hour
	all := []client.DeadLetter{
		{ID: 17, Time: at, Trigger: "default/on-product", Broker: "default/default", Attempts: 4, EventID: "p1", Source: "/shop", Type: "dev.aisle.product.v1", Dest: "http://composer", Code: 503, Data: []byte("queue is full\n")},
		{ID: 18, Time: at, Trigger: "other/audit", Broker: "other/default", Attempts: 1, EventID: "p2", Source: "/shop", Type: "dev.aisle.product.v1", Dest: "http://audit", Code: -1},
	}
	left := []client.DeadLetter{}
	for _, d := range all {
		if want := r.FormValue("trigger"); !f.gone[fmt.Sprint(d.ID)] && (want == "" || want == d.Trigger) {
			left = append(left, d)
		}
	}
	answer := func(v any) { _ = json.NewEncoder(w).Encode(v) } // the caller has gone
	path := strings.TrimPrefix(r.URL.Path, "/v1/events/")
	id, what, _ := strings.Cut(strings.TrimPrefix(path, "deadletters/"), "/")
	switch {
	case path == "deadletters" && r.Method == http.MethodGet:
		answer(map[string]any{"items": left})
	case path == "deadletters" && r.Method == http.MethodDelete, id == "replay" && r.Method == http.MethodPost:
		for _, d := range left {
			f.gone[fmt.Sprint(d.ID)] = true
		}
		answer(map[string]int{"count": len(left)})
	case strings.HasPrefix(path, "deadletters/") && (id != "17" && id != "18" || f.gone[id]):
		problem.Write(w, problem.New(http.StatusNotFound, "there is no dead letter %s", id))
	case strings.HasPrefix(path, "deadletters/") && r.Method == http.MethodGet:
		answer(json.RawMessage(categoryEvent))
	case strings.HasPrefix(path, "deadletters/") && (r.Method == http.MethodDelete || what == "replay"):
		f.gone[id] = true
		answer(map[string]int{"count": 1})
	case path == "pending":
		answer(map[string]any{"items": []client.Pending{{Trigger: "default/nightly", Broker: "default/default", Events: 12, Oldest: at, Reason: "23:00 Europe/Berlin"}}})
	case path == "pingsources":
		answer(map[string]any{"items": []client.Ticks{{Name: "default/nightly", Last: at, Trouble: "its sink answered 503"}}})
	case path == "results":
		w.Header().Set("Content-Type", "text/event-stream")
		for n := range 2 {
			if r.FormValue("since") != fmt.Sprint(n+1) {
				fmt.Fprintf(w, ": comment\nid: %d\ndata: %s\n\n", n+1, categoryEvent)
			}
		}
	case path == "explain/p1":
		var ev struct{ Data *category.Result }
		if err := json.Unmarshal([]byte(categoryEvent), &ev); err != nil {
			panic(err) // it is below
		}
		answer(client.Explanation{
			Asked:  client.Stored{ID: "e1", Source: "/shop", Broker: "default/default", Seq: 3},
			Answer: &client.Stored{ID: "a1", Source: "/composer", Broker: "default/default", Seq: 4}, Result: ev.Data,
			Weights: []client.LegWeight{{Leg: "title", Weight: 0.7, Share: 1}}, Slow: []string{"title waited 40 ms for a pod to start"},
			Deliveries: []client.Delivery{{Trigger: "default/on-product", State: client.DeliveryAnswered, Attempts: 2}, {Trigger: "other/audit", State: client.DeliveryGivenUp, Attempts: 1, DeadLetter: 18, Code: -1}},
		})
	default:
		problem.Write(w, problem.New(http.StatusNotFound, "there is no event and no product %q", path))
	}
}

const categoryEvent = `{"specversion":"1.0","id":"a1","source":"/composer","type":"dev.aisle.category.v1","time":"2026-01-01T10:00:00Z","datacontenttype":"application/json","data":` +
	`{"id":"p1","status":"partial","category":{"label":"Shirts","path":["Fashion","Shirts"],"confidence":0.93},` +
	`"candidates":[{"label":"Shirts","probability":0.93},{"label":"Tops","probability":0.05}],` +
	`"legs":[{"name":"title","service":"title","outcome":"answered","label":"Shirts","confidence":0.95,"model":{"name":"title","version":"3","digest":"sha256:feed"},"latencyMs":41.5,"coldMs":40,"attempts":1},` +
	`{"name":"photo","service":"photo","outcome":"failed","latencyMs":3,"reason":"503 queue full"},` +
	`{"name":"look","service":"look","variant":"cpu","standIn":"waking","outcome":"answered","label":"Shirts","confidence":0.8,"latencyMs":2,"attempts":1,"reason":"look-gpu is waking"},` +
	`{"name":"brand","service":"brand","outcome":"closed","latencyMs":0,"opens":"2026-01-02T06:00:00Z","reason":"brand is closed by a schedule until 2026-01-02T06:00:00Z"}],` +
	`"composition":{"name":"products","digest":"sha256:c0"},"durationMs":42.5}}`
