package compose

import (
	"strings"
	"testing"
	"testing/synctest"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/product"
)

var declared = strings.NewReplacer("service: title}", "service: title, reads: [title]}", "weight: 0.8}", "weight: 0.8, reads: [images]}").Replace(twoLegs)

// A leg whose reads the composition declares is not woken for a product that
// it cannot read, nor sent what it does not read: from the first product on.
func TestDeclaredReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, declared)
		res, err := w.Compose(t.Context(), Product{Product: product.Product{Title: "red shirt"}})
		if err != nil {
			t.Fatal(err)
		}
		if l := res.Legs[1]; l.Outcome != category.Skipped || !strings.Contains(l.Reason, "images") || w.dialled("photo") != 0 {
			t.Errorf("%+v; photo was dialled %d times", l, w.dialled("photo"))
		}
		w = newWorld(t, declared)
		w.title.setReads("title")
		if _, err := w.Compose(t.Context(), both()); err != nil {
			t.Fatal(err)
		}
		if got := w.title.requests(); len(got) != 1 || got[0].product.Images != nil {
			t.Errorf("the title leg was sent %+v", got)
		}
		if got := w.photo.requests(); len(got) != 1 || got[0].contentType != "image/png" {
			t.Errorf("the photo leg was sent %+v", got)
		}
	})
}

// What answers say takes the place of what the composition says.
func TestAnswersOverruleDeclaredReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, declared)
		p := both()
		p.Brand, p.Attributes = "Acme", map[string]string{"colour": "red"}
		w.photo.setReads("images", "brand") // more than declared
		w.title.setReads("attributes.colour")
		for range 2 {
			if _, err := w.Compose(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		photo := w.photo.requests()
		if len(photo) != 3 || photo[0].contentType != "image/png" || photo[1].product.Brand != "Acme" || photo[2].product.Brand != "Acme" {
			t.Errorf("photo: %+v", photo)
		}
		title := w.title.requests()
		if len(title) != 3 || title[0].product.Attributes != nil || title[1].product.Attributes["colour"] != "red" {
			t.Errorf("title: %+v", title)
		}
		// Nothing that it was declared to read is left of it: it is skipped.
		res, err := w.Compose(t.Context(), Product{Product: product.Product{Title: "red shirt", Brand: "Acme"}})
		if err != nil || res.Legs[0].Outcome != category.Skipped {
			t.Errorf("%v %+v", err, res.Legs)
		}
	})
}
