package reviewing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/feed"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/review"
	"aisle.dev/aisle/internal/taxonomy"
)

func made(t *testing.T, typ, id string, data any) ce.Event {
	t.Helper()
	ev, err := event.New(typ, "/test", id, "", data)
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

// unsure is a review event about a product.
func unsure(t *testing.T, id string, p product.Product) ce.Event {
	t.Helper()
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return made(t, event.TypeReview, id, category.Result{ID: p.ID, Status: category.Complete, Review: true, Product: raw,
		Candidates: []prediction.Prediction{{Label: "Shirts", Probability: 0.5}, {Label: "Shoes", Probability: 0.4}},
		Legs:       []category.Leg{{Name: "title", Outcome: category.Answered, Label: "Shirts", Confidence: 0.5}}})
}

func decided(t *testing.T, item Item, label string) ce.Event {
	t.Helper()
	return made(t, event.TypeReviewed, "d-"+item.Review+label, item.Decide(review.Category{Label: label}, "me"))
}

func ids(items []Item) (out []string) {
	for _, i := range items {
		out = append(out, i.ID())
	}
	return out
}

func TestQueue(t *testing.T) {
	q := NewQueue()
	events := []ce.Event{}
	add := func(ev ce.Event) {
		events = append(events, ev)
		q.Add(ev)
	}
	add(unsure(t, "r1", product.Product{ID: "1", Title: "one", Attributes: map[string]string{"colour": "red"}}))
	add(unsure(t, "r2", product.Product{ID: "2", Title: "two"}))
	add(unsure(t, "r3", product.Product{Title: "no id of its own"}))
	add(unsure(t, "r1b", product.Product{ID: "1", Title: "one again"})) // in place of r1
	add(made(t, event.TypeReview, "bad", "no answer"))
	add(made(t, event.TypeReviewed, "bad too", map[string]string{"review": "r1"}))
	held, more := q.Waiting()
	if got := ids(held); !slices.Equal(got, []string{"2", "r3", "1"}) || more != 0 || q.Unread() != 2 {
		t.Fatalf("%v and %d more wait, %d were not read", got, more, q.Unread())
	}
	two, _ := q.Find("2")
	add(decided(t, two, "Shoes"))
	three, _ := q.Find("r3")
	add(decided(t, three, "Hats"))
	add(decided(t, three, "Shirts"))  // mended
	add(unsure(t, "r2", two.Product)) // it came twice, and is decided
	if held, _ := q.Waiting(); !slices.Equal(ids(held), []string{"1"}) {
		t.Errorf("%v wait", ids(held))
	}
	if again, ok := q.Find("2"); !ok || again.Product.Title != "two" {
		t.Error("a decision cannot be mended")
	}
	s := q.Stats()
	if s.Waiting != 1 || s.Reviewed != 2 || s.Right != 1 || s.Among != 2 || len(s.By) != 2 || s.By[0].Label != "Shoes" {
		t.Errorf("%+v", s)
	}

	// What is exported is read by evaluate: a feed with categories.
	add(decided(t, Item{Review: "r9", Product: product.Product{ID: "9"}, Candidates: two.Candidates}, "Shirts")) // only a picture, which is not here
	for _, asCSV := range []bool{false, true} {
		var out bytes.Buffer
		rows, skipped, err := Export(&out, asCSV, func(each func(ce.Event) error) error {
			for _, ev := range events {
				if err := each(ev); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || rows != 2 || skipped != 1 {
			t.Fatalf("%d rows, %d skipped: %v", rows, skipped, err)
		}
		format := feed.NDJSON
		if asCSV {
			format = feed.CSV
		}
		in, err := feed.New(&out, feed.Options{Name: "export", Format: format, Category: true})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for range rows {
			item, err := in.Next()
			if err != nil || item.Err != nil {
				t.Fatal(err, item.Err)
			}
			got[item.Product.Title] = item.Category
		}
		if got["two"] != "Shoes" || got["no id of its own"] != "Shirts" {
			t.Errorf("%v", got)
		}
	}
}

// More products than are held wait all the same.
func TestQueueIsBounded(t *testing.T) {
	q := NewQueue()
	for i := range MaxHeld + 5 {
		q.Add(unsure(t, fmt.Sprint("r", i), product.Product{ID: fmt.Sprint(i), Title: "x"}))
	}
	held, more := q.Waiting()
	if len(held) != MaxHeld || more != 5 || q.Stats().Waiting != MaxHeld+5 {
		t.Fatalf("%d held, %d more", len(held), more)
	}
	q.Add(decided(t, held[0], "Shoes"))
	q.Add(made(t, event.TypeReviewed, "d", Item{Review: fmt.Sprint("r", MaxHeld), Candidates: held[0].Candidates}.Decide(review.Category{Label: "Shoes"}, "")))
	if held, more := q.Waiting(); len(held) != MaxHeld-1 || more != 4 {
		t.Errorf("%d held, %d more", len(held), more)
	}
}

func tree(t *testing.T) Categories {
	t.Helper()
	tree, err := taxonomy.Parse([]byte("id,parent,name\nwear,,Wear\nshirt,wear,Shirts\ntee,wear,T-Shirts\nfoot,,Footwear\nshoe,foot,Shoes\n"))
	if err != nil {
		t.Fatal(err)
	}
	return NewCategories(tree)
}

func TestCategories(t *testing.T) {
	c := tree(t)
	for text, want := range map[string]string{"Shirts": "Shirts", "shoe": "Shoes", " shoes ": "Shoes", "t-shirts": "T-Shirts"} {
		if got, err := c.Resolve(text); err != nil || got.Label != want || len(got.Path) != 2 {
			t.Errorf("%q is %+v: %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"": "empty", "Shoos": "did you mean Shoes", "foot shirts": "no category", "wear": "Wear, which has categories below it", strings.Repeat("x", 2000): "at most",
	} {
		if _, err := c.Resolve(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %s", text, err, want)
		}
	}
	if got := c.Match("wear shirt", 9); len(got) != 2 {
		t.Errorf("%v", got)
	}
	if got, err := NewCategories(nil).Resolve("anything"); err != nil || got.Label != "anything" {
		t.Errorf("without a taxonomy: %v %v", got, err)
	}
}

func TestSession(t *testing.T) {
	items := []Item{
		{Review: "r1", Product: product.Product{ID: "1", Title: "a \x1b[2J shirt", Description: strings.Repeat("long ", 100), Images: []product.Image{{URL: "https://shop.example/1.jpg"}}}},
		{Review: "r2", Product: product.Product{ID: "2", Title: "a shoe", Images: []product.Image{{URL: "javascript:alert(1)"}}}},
		{Review: "r3", Product: product.Product{ID: "3"}},
	}
	for i := range items {
		items[i].Candidates = []prediction.Prediction{{Label: "Shirts", Probability: 0.5}, {Label: "Shoes", Probability: 0.4}}
	}
	for _, tt := range []struct {
		name, keys string
		want       []string // what was decided, in turn
		n          int      // of products
	}{
		{"the first", "\r\r\r", []string{"1 Shirts", "2 Shirts", "3 Shirts"}, 3},
		{"another, skip, quit", "2sq\r", []string{"1 Shoes"}, 1},
		{"a digit without a candidate, and an arrow", "3\x1b[A\x1b[1;5C2q", []string{"1 Shoes"}, 1},
		{"typed", "/t-sh\rq", []string{"1 T-Shirts"}, 1},
		{"typed, completed", "/foot\t\rq", []string{"1 Shoes"}, 1},
		{"typed, not known, and gone back", "/zzz\r\r2q", []string{"1 Shoes"}, 1},
		{"back mends", "2b\r\x03", []string{"1 Shoes", "1 Shirts"}, 1},
		{"back at the first", "b\rq", []string{"1 Shirts"}, 1},
		{"not kept, and again", "1\r1\r1\r", []string{"1 Shirts", "2 Shirts", "3 Shirts"}, 3},
		{"the input ends", "2", []string{"1 Shoes"}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			var out bytes.Buffer
			asked := 0
			s := &Session{In: strings.NewReader(tt.keys), Out: screen.Screen{Writer: &out, Terminal: true, Colour: true, Width: 80}, Categories: tree(t), Now: time.Now,
				Decide: func(i Item, c review.Category) error {
					if asked++; tt.name == "not kept, and again" && asked%2 == 1 {
						return errors.New("the broker is away")
					}
					got = append(got, i.ID()+" "+c.Label)
					return nil
				}}
			n, err := s.Run(context.Background(), items, 7)
			if err != nil || n != tt.n || !slices.Equal(got, tt.want) {
				t.Errorf("%d %v: %v", n, got, err)
			}
			text := out.String()
			if strings.Contains(text, "\x1b[2J") || strings.Contains(text, "\x1b]8;;javascript") {
				t.Error("a product reached the terminal")
			}
			if !strings.Contains(text, "\x1b]8;;https://shop.example/1.jpg\x1b\\") || !strings.Contains(text, "1 of 3 (7 more wait)") {
				t.Errorf("%q", text)
			}
		})
	}
}

func TestSessionEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &Session{In: strings.NewReader(""), Out: screen.Screen{Writer: &bytes.Buffer{}, Width: 80}, Now: time.Now}
	if _, err := s.Run(ctx, make([]Item, 1), 0); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
