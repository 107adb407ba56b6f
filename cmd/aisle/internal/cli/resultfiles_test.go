package cli

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/feed"
)

var fileResults = []category.Result{
	{ID: "a<1>", Status: category.Complete, Category: &category.Category{ID: "12", Label: "Shoes", Path: []string{"Heureka.cz", `Boots & "Shoes"`}, Confidence: 0.98765}},
	{ID: "2", Status: category.Failed},
	{Status: category.Complete, Category: &category.Category{Label: "Ties", Path: []string{"Ties"}}},
}

func fileOf(t *testing.T, format string, results []category.Result) []byte {
	t.Helper()
	var out bytes.Buffer
	f := newResultFile(&out, format)
	ev := ce.New()
	ev.SetTime(time.Date(2026, 11, 24, 4, 0, 0, 0, time.UTC))
	for _, r := range results {
		if err := f.add("default/default:7", ev, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestResultsAsCSV(t *testing.T) {
	head := []string{"id", "category_id", "category", "path", "confidence", "status", "review", "time", "place"}
	for name, c := range map[string]struct {
		results []category.Result
		want    [][]string
	}{
		"none": {nil, [][]string{head}},
		"some": {fileResults, [][]string{head,
			{"a<1>", "12", "Shoes", `Heureka.cz > Boots & "Shoes"`, "0.9877", "complete", "false", "2026-11-24T04:00:00Z", "default/default:7"},
			{"2", "", "", "", "", "failed", "false", "2026-11-24T04:00:00Z", "default/default:7"},
			{"", "", "Ties", "Ties", "0.0000", "complete", "false", "2026-11-24T04:00:00Z", "default/default:7"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := csv.NewReader(bytes.NewReader(fileOf(t, "csv", c.results))).ReadAll()
			if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
				t.Error(err, diff)
			}
		})
	}
}

// What is written is a feed that aisle reads itself, but for the title, which
// the importer has.
func TestResultsForHeureka(t *testing.T) {
	text := fileOf(t, "heureka", fileResults)
	const want = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<SHOP>\n" +
		"  <SHOPITEM><ITEM_ID>a&lt;1&gt;</ITEM_ID><CATEGORYTEXT>Heureka.cz | Boots &amp; &#34;Shoes&#34;</CATEGORYTEXT></SHOPITEM>\n</SHOP>\n"
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	r, err := feed.New(bytes.NewReader(text), feed.Options{Name: "results"})
	if err != nil {
		t.Fatal(err)
	}
	item, err := r.Next()
	if err != nil || item.Product.ID != "a<1>" {
		t.Errorf("%+v %v", item, err)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the only one: %v", err)
	}
	if got := string(fileOf(t, "heureka", nil)); got != "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<SHOP>\n</SHOP>\n" {
		t.Errorf("of no results: %s", got)
	}
}
