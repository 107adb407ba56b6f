package stored_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/cmd/aisle/internal/stored"
	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
)

var result = category.Result{
	ID: "p1", Status: category.Complete,
	Category: &category.Category{Label: "shirt", Path: []string{"shirt"}, Confidence: 0.9},
	Legs:     []category.Leg{{Name: "title", Service: "title", Outcome: category.Answered, Label: "shirt", Confidence: 0.9}},
}

// written is what Write makes of a result.
func written(t *testing.T, r category.Result, truth string) string {
	t.Helper()
	ev, err := event.New(event.TypeCategory, "/composer", "e1", event.SchemaCategory, r)
	if err != nil {
		t.Fatal(err)
	}
	ev.SetExtension("causationid", "line-3")
	var buf bytes.Buffer
	if err := stored.Write(&buf, ev, truth); err != nil {
		t.Fatal(err)
	}
	if _, changed := ev.Extensions()[stored.Truth]; changed {
		t.Error("the event that was written has changed")
	}
	return buf.String()
}

func TestReadWhatIsWritten(t *testing.T) {
	unnamed := result
	unnamed.ID = ""
	text := written(t, result, "Ties & more") + "\n" + written(t, unnamed, "")
	var got []stored.Answer
	if err := stored.Read(strings.NewReader(text), "f", func(a stored.Answer) error { got = append(got, a); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []stored.Answer{{ID: "p1", Truth: "Ties & more", Result: result}, {ID: "line-3", Result: unnamed}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !stored.Is(strings.NewReader(text)) {
		t.Error("not known for answers")
	}
}

func TestReadRefuses(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"a product", `{"title": "Red shirt"}`, "f, line 1: "},
		{"a table", "id,title\n1,Red shirt\n", "f, line 1: "},
		{"another event", "\n" + `{"specversion":"1.0","id":"1","source":"/x","type":"dev.aisle.scaled.v1","data":{}}`, "f, line 2: its data is no answer"},
		{"a long line", strings.Repeat("x", stored.MaxLine+1), "more than 8 MB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := stored.Read(strings.NewReader(c.text), "f", func(stored.Answer) error { return nil })
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if stored.Is(strings.NewReader(c.text)) {
				t.Error("taken for answers")
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"/x","type":"dev.aisle.category.v1","truth":"tie","data":{"id":"1","status":"complete","legs":[]}}`))
	f.Add([]byte(`{"specversion":"1.0","data":null}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if a, err := stored.Decode(line); err == nil && a.Result.Status == "" {
			t.Error("an answer without a status was taken")
		}
	})
}
