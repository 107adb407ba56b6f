package classify_test

import (
	"fmt"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/classify"
	"aisle.dev/aisle/internal/classify/classifytest"
	"aisle.dev/aisle/internal/prediction"
)

func TestExplain(t *testing.T) {
	r := start(t, classifytest.Title(t), nil, nil)
	for _, tt := range []struct {
		name, path, body string
		label            string
		first            prediction.Part // its weight is not looked at
		examined         int
	}{
		{"a word", "?explain=true", `{"title":"a steel watch for men"}`, "Watches", prediction.Part{Field: "title", Text: "watch"}, 9},
		{"in the body", "", `{"title":"a steel watch","explain":true}`, "Watches", prediction.Part{Field: "title", Text: "watch"}, 5},
		{"as it is written", "?explain=1", `{"title":"Cotton SHIRT!"}`, "Shirts", prediction.Part{Field: "title", Text: "SHIRT!"}, 2},
		{"the only word", "?explain=true", `{"title":"shoe"}`, "Shoes", prediction.Part{Field: "title", Text: "shoe"}, 1},
		{"two that say it", "?explain=true", `{"title":"big shirt tee small"}`, "Shirts", prediction.Part{Field: "title", Text: "shirt tee"}, 7},
		{"beside an attribute", "?explain=true", `{"title":"shoe","attributes":{"usage":"sports use","colour":"red"}}`, "Shoes", prediction.Part{Field: "title", Text: "shoe"}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := r.do(t, "POST", "/v1/classify"+tt.path, "application/json", []byte(tt.body)).result(t)
			e := res.Explanation
			if e == nil || e.Label != tt.label || res.Top().Label != tt.label || e.Examined != tt.examined || e.Of != tt.examined || len(e.Parts) == 0 {
				t.Fatalf("%+v, want %s, of %d", e, tt.label, tt.examined)
			}
			if p := e.Parts[0]; p.Field != tt.first.Field || p.Text != tt.first.Text || !(p.Weight > 0 && p.Weight <= 1) {
				t.Errorf("first %+v, want %+v", p, tt.first)
			}
			for i, p := range e.Parts {
				if p.Weight <= 0 || i > 0 && p.Weight > e.Parts[i-1].Weight {
					t.Errorf("not by falling weight: %+v", e.Parts)
				}
			}
		})
	}
	for _, off := range []string{"?explain=false", "?explain="} {
		if res := r.do(t, "POST", "/v1/classify"+off, "application/json", []byte(`{"title":"shirt"}`)).result(t); res.Explanation != nil {
			t.Errorf("%s: %+v", off, res.Explanation)
		}
	}
	r.metric(t, "aisle_classifier_requests_inside 0")
}

// Every inference of an explanation counts against the queue: where there is
// no room for them it is refused, and a long text is examined in part.
func TestExplainIsBounded(t *testing.T) {
	r := start(t, classifytest.Title(t), nil, func(o *classify.Options) { o.Queue = 10 })
	long := fmt.Sprintf(`{"title":"watch %s"}`, strings.Repeat("word ", 700))
	e := r.do(t, "POST", "/v1/classify?explain=true", "application/json", []byte(long)).result(t).Explanation
	if e.Examined != 5 || e.Of <= 100 || e.Parts[0].Text != "watch" {
		t.Errorf("%+v, want 5 examined", e)
	}

	full, g := gated(t, func(o *classify.Options) { o.Queue = 4 })
	first, second := full.post(t, t.Context()), full.post(t, t.Context())
	<-g.runs
	full.metric(t, "aisle_classifier_requests_inside 2")
	got := make(chan reply, 1)
	go func() {
		got <- full.do(t, "POST", "/v1/classify?explain=true", "application/json", []byte(`{"title":"red shirt"}`))
	}()
	full.metric(t, "aisle_classifier_requests_inside 3")
	close(g.pass)
	if a := <-got; a.code != 200 && a.code != 503 {
		t.Errorf("%d %s", a.code, a.body)
	}
	for _, c := range []chan reply{first, second} {
		if a := <-c; a.code != 200 {
			t.Errorf("%d", a.code)
		}
	}
	full.metric(t, "aisle_classifier_requests_inside 0")
}

func TestExplainPictures(t *testing.T) {
	r := start(t, classifytest.Photo(t), nil, nil)
	got := r.do(t, "POST", "/v1/classify?explain=true", "image/png", picture(t, blue))
	if got.code != 422 || !strings.Contains(string(got.body), "reads a picture") {
		t.Errorf("%d %s", got.code, got.body)
	}
}
