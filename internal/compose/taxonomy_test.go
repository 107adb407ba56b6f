package compose

import (
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/product"
)

// An answer is as deep as it is sure; one that is less sure than the composition
// wants is for review, and its event is of that type.
func TestSureness(t *testing.T) {
	backoff := func(rest string) string {
		return strings.Replace(twoLegs, "taxonomy: taxonomy.csv", "taxonomy: {file: taxonomy.csv, backoff: {threshold: 0.95}}", 1) + rest
	}
	for _, c := range []struct {
		name, text string
		title      float64 // what the title's leg says of shirts; shoes have the rest
		want       category.Category
		review     bool
	}{
		{"a leaf", backoff(""), 0.97, category.Category{ID: "shirt", Label: "Shirts", Path: []string{"Wear", "Shirts"}, Level: 2}, false},
		{"what is above it", backoff(""), 0.7, category.Category{ID: "wear", Label: "Wear", Path: []string{"Wear"}, Level: 1, BackedOff: true}, false},
		{"sure again, by backing off", backoff("  threshold: 0.9\n"), 0.7, category.Category{ID: "wear", Label: "Wear", Path: []string{"Wear"}, Level: 1, BackedOff: true}, false},
		{"for review", twoLegs + "  threshold: 0.9\n", 0.7, category.Category{ID: "shirt", Label: "Shirts", Path: []string{"Wear", "Shirts"}, Level: 2}, true},
		{"not for review", twoLegs + "  threshold: 0.9\n", 0.97, category.Category{ID: "shirt", Label: "Shirts", Path: []string{"Wear", "Shirts"}, Level: 2}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, c.text)
				w.title.says = says("Shirts", c.title, "Shoes", 1-c.title)
				rec := post(w.Handler(), "/", `{"id":"p1","title":"red shirt","images":[{"url":"https://shop.example/1.jpg"},{"data":"iVBORw0KGgo="}]}`, "Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/shop", "Ce-Type", event.TypeProduct)
				ev, _, err := event.Decode(rec.Header(), rec.Body.Bytes())
				if err != nil {
					t.Fatalf("%d %s: %v", rec.Code, rec.Body, err)
				}
				var res category.Result
				if err := ev.DataAs(&res); err != nil {
					t.Fatal(err)
				}
				c.want.Confidence = res.Category.Confidence
				if diff := cmp.Diff(&c.want, res.Category); diff != "" || len(res.Candidates) != 2 {
					t.Errorf("%s%+v", diff, res.Candidates)
				}
				typ, shown := event.TypeCategory, ""
				if c.review {
					typ, shown = event.TypeReview, `{"id":"p1","title":"red shirt","images":[{"url":"https://shop.example/1.jpg"}]}`
				}
				if string(res.Product) != shown {
					t.Errorf("the product in it is %s, want %s", res.Product, shown)
				}
				if res.Review != c.review || ev.Type() != typ {
					t.Errorf("review is %v, the event's type %s; want %v, %s", res.Review, ev.Type(), c.review, typ)
				}
			})
		})
	}
}

// A leg that has other labels is understood by its map of labels, of which two may
// be one category.
func TestLabelsOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		text := strings.Replace(twoLegs, "service: title}", "service: title, labels: labels.csv}", 1)
		spec, err := composition.Parse([]byte(text), fstest.MapFS{
			"taxonomy.csv": {Data: []byte(smallTaxonomy)}, "labels.csv": {Data: []byte("label,category\nPolo,shirt\nBlouse,Shirts\nBoots,shoe\n")}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(Options{Composition: spec, Transport: w.transport})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		w.title.says = says("Polo", 0.5, "Blouse", 0.3, "Boots", 0.2)
		res, err := c.Compose(t.Context(), Product{Product: product.Product{Title: "red shirt"}})
		if err != nil {
			t.Fatal(err)
		}
		if l := res.Legs[0]; l.Label != "Shirts" || l.Confidence != 0.8 || res.Category.ID != "shirt" {
			t.Errorf("%+v %+v", l, res.Category)
		}
	})
}
