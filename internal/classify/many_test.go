package classify_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"aisle.dev/aisle/internal/classify"
	"aisle.dev/aisle/internal/classify/classifytest"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/problem"
)

func (r reply) items(t *testing.T) []prediction.Item {
	t.Helper()
	var items []prediction.Item
	if err := json.Unmarshal(r.body, &items); err != nil || r.code != 200 {
		t.Fatalf("%d %s: %v", r.code, r.body, err)
	}
	return items
}

func TestManyProducts(t *testing.T) {
	r := start(t, classifytest.Title(t), nil, nil)
	body := ` [{"id":"1","title":"steel watch"}, {"id":"2"}, {"title":"x","colour":"red"}, 7, null,
		{"images":[{"data":"aGk="}]}, {"id":"7","title":"shoe"}, {"title":"` + "\xff" + `"}, {"title":"a","title":"b"}, {"title":"a","explain":true}]`
	got := r.do(t, "POST", "/v1/classify?top=1", "application/json", []byte(body))
	items := got.items(t)
	want := []string{"Watches", "422 neither a title", "400 unknown field", "400 must be an object", "422 neither a title",
		"422 none of the fields", "Shoes", "400 not valid UTF-8", "400 not valid JSON", "422 a request of its own"}
	if len(items) != len(want) {
		t.Fatalf("%d items: %s", len(items), got.body)
	}
	for i, item := range items {
		status, text, refused := strings.Cut(want[i], " ")
		if !refused {
			if item.Error != nil || item.Top().Label != want[i] || len(item.Predictions) != 1 || item.Model.Name != "title" {
				t.Errorf("item %d: %+v, want %s", i, item, want[i])
			}
			continue
		}
		if item.Result != nil || fmt.Sprint(item.Error["status"]) != status || !strings.Contains(fmt.Sprint(item.Error["detail"]), text) || item.Error["title"] == "" {
			t.Errorf("item %d: %+v, want %s", i, item, want[i])
		}
	}
	if items[0].ID != "1" || items[6].ID != "7" || items[5].Error["type"] != problem.TypeNothingToRead {
		t.Errorf("%s", got.body)
	}
	if got.header.Get("Server-Timing") == "" || got.header.Get(prediction.HeaderReads) == "" {
		t.Errorf("headers %v", got.header)
	}
	if got := r.do(t, "POST", "/v1/classify", "application/json", []byte("[]")); len(got.items(t)) != 0 {
		t.Errorf("of none: %s", got.body)
	}
}

// A long array is answered in the order sent, and takes no more than its share
// of the queue.
func TestManyTakeTheirShare(t *testing.T) {
	r, g := gated(t, func(o *classify.Options) { o.Queue = 6 })
	body := "[" + strings.Repeat(`{"title":"shirt"},`, 19) + `{"id":"last","title":"shirt"}]`
	single := r.post(t, t.Context()) // keeps the worker busy
	<-g.runs
	got := make(chan reply, 1)
	go func() { got <- r.do(t, "POST", "/v1/classify", "application/json", []byte(body)) }()
	r.metric(t, "aisle_classifier_queue_length 3")
	r.metric(t, "aisle_classifier_requests_inside 4")                           // there is room for others
	second := r.do(t, "POST", "/v1/classify", "application/json", []byte(body)) // but not for as many again
	if second.code != 503 || second.header.Get("Retry-After") != "1" {
		t.Errorf("%d %s", second.code, second.body)
	}
	close(g.pass)
	if a := <-single; a.code != 200 {
		t.Errorf("%d %s", a.code, a.body)
	}
	if items := (<-got).items(t); len(items) != 20 || items[19].ID != "last" {
		t.Errorf("%+v", items)
	}
	r.metric(t, "aisle_classifier_requests_inside 0")
}

func TestNonFinite(t *testing.T) {
	g := newGate()
	close(g.pass)
	var broken atomic.Bool // not while it warms
	g.fill = func(out []float32) {
		if broken.Load() {
			out[len(out)-1] = float32(math.Inf(1))
		}
	}
	r := start(t, classifytest.Title(t), g, nil)
	broken.Store(true)
	got := r.do(t, "POST", "/v1/classify", "application/json", []byte(`{"title":"shirt"}`))
	if got.code != http.StatusInternalServerError || !strings.Contains(string(got.body), "not a finite number") {
		t.Errorf("%d %s", got.code, got.body)
	}
	items := r.do(t, "POST", "/v1/classify", "application/json", []byte(`[{"title":"shirt"},{"title":""}]`)).items(t)
	if items[0].Error["status"] != 500.0 || items[1].Error["status"] != 422.0 {
		t.Errorf("%+v", items)
	}
}
