package compose

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/product"
)

func TestEvents(t *testing.T) {
	binary := []string{"Ce-Specversion", "1.0", "Ce-Id", "e 1", "Ce-Source", "/shop", "Ce-Type", event.TypeProduct, "Ce-Partitionkey", "k",
		"Ce-Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	binary[3] = "e%201"
	structured := fmt.Sprintf(`{"specversion":"1.0","id":"e 1","source":"/shop","type":%q,"partitionkey":"k","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","data":%s}`, event.TypeProduct, shirt)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		h := w.Handler()
		ids := map[string]bool{}
		send := func(asStructured bool) *httptest.ResponseRecorder {
			if asStructured {
				return post(h, "/", structured, "Content-Type", event.ContentType)
			}
			return post(h, "/", shirt, binary...)
		}
		for _, asStructured := range []bool{true, false} {
			rec := send(asStructured)
			if rec.Code != 200 {
				t.Fatalf("%d %s", rec.Code, rec.Body)
			}
			ev, got, err := event.Decode(rec.Header(), rec.Body.Bytes())
			if err != nil || got != asStructured {
				t.Fatalf("%v: the reply's mode is structured %v, want %v", err, got, asStructured)
			}
			ids[ev.ID()] = true
			attrs := map[string]any{"type": ev.Type(), "source": ev.Source(), "subject": ev.Subject(), "dataschema": ev.DataSchema(), "datacontenttype": ev.DataContentType(), "id": len(ev.ID())}
			for k, v := range ev.Extensions() {
				attrs[k] = v
			}
			want := map[string]any{"type": event.TypeCategory, "source": "/aisle/composer", "subject": "p1", "dataschema": event.SchemaCategory,
				"datacontenttype": "application/json", "id": 32, "aislestatus": "complete", "causationid": "e 1", "partitionkey": "k",
				"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
			if diff := cmp.Diff(want, attrs); diff != "" {
				t.Error(diff)
			}
			if !ev.Time().Equal(time.Now()) {
				t.Errorf("time %s", ev.Time())
			}
			conforms(t, category.Schema(), ev.Data())
			var schema struct {
				ID string `json:"$id"`
			}
			if err := json.Unmarshal(category.Schema(), &schema); err != nil || schema.ID != ev.DataSchema() {
				t.Errorf("dataschema %s, the schema's $id is %s", ev.DataSchema(), schema.ID)
			}
		}
		if len(ids) != 1 {
			t.Errorf("one event delivered twice got the ids %v", ids)
		}
		if got := w.title.requests()[0].header.Get("Traceparent"); got == "" {
			t.Error("the leg was sent no traceparent")
		}
		w.stopPhoto()
		ev, _, err := event.Decode(send(false).Header(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if ids[ev.ID()] || ev.Extensions()["aislestatus"] != "partial" || ev.Extensions()["failedlegs"] != "photo" {
			t.Errorf("a partial answer: %v", ev)
		}
	})
}

func TestReplyID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		res, err := w.Compose(t.Context(), both())
		if err != nil {
			t.Fatal(err)
		}
		in, _ := event.NewProduct("/shop", "1", product.Product{Title: "x"})
		base := replyID(in, res)
		changed := map[string]func(){
			"input id":     func() { in.SetID("2") },
			"input source": func() { in.SetSource("/other") },
			"composition":  func() { res.Composition.Digest = "sha256:x" },
			"model":        func() { m := *res.Legs[0].Model; m.Digest = "sha256:y"; res.Legs[0].Model = &m },
			"fewer legs":   func() { res.Legs[1].Outcome = category.LegFailed },
		}
		for name, change := range changed {
			in, _ = event.NewProduct("/shop", "1", product.Product{Title: "x"})
			res, _ = w.Compose(t.Context(), both())
			if replyID(in, res) != base {
				t.Fatalf("%s: the same answer has another id", name)
			}
			change()
			if replyID(in, res) == base {
				t.Errorf("%s changes nothing", name)
			}
		}
	})
}

func TestTrace(t *testing.T) {
	const a, b = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-01"
	for _, tt := range []struct {
		name       string
		header     http.Header
		extensions map[string]any
		want       http.Header
	}{
		{"none", nil, nil, nil},
		{"the request's", http.Header{"Traceparent": {a}, "Tracestate": {"x=1"}}, map[string]any{"traceparent": b}, http.Header{"Traceparent": {a}, "Tracestate": {"x=1"}}},
		{"the event's", nil, map[string]any{"traceparent": b, "tracestate": "y=2"}, http.Header{"Traceparent": {b}, "Tracestate": {"y=2"}}},
		{"nonsense", nil, map[string]any{"traceparent": "a\r\nb", "tracestate": "y=2"}, nil},
		{"a number", nil, map[string]any{"traceparent": int32(3)}, nil},
		{"hostile state", nil, map[string]any{"traceparent": b, "tracestate": "ü"}, http.Header{"Traceparent": {b}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, trace(tt.header, tt.extensions)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
