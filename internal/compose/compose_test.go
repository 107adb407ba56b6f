package compose

import (
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

func TestComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		res, err := w.Compose(t.Context(), both())
		if err != nil {
			t.Fatal(err)
		}
		shirts, shoes := 0.9*math.Pow(0.6, 0.8), 0.1*math.Pow(0.4, 0.8)
		want := &category.Category{ID: "shirt", Label: "Shirts", Path: []string{"Wear", "Shirts"}, Level: 2, Confidence: shirts / (shirts + shoes)}
		if math.Abs(res.Category.Confidence-want.Confidence) > 1e-9 {
			t.Errorf("confidence %v, want %v", res.Category.Confidence, want.Confidence)
		}
		want.Confidence = res.Category.Confidence
		if diff := cmp.Diff(want, res.Category); diff != "" {
			t.Error(diff)
		}
		if res.Status != category.Complete || res.ID != "p1" || len(res.Legs) != 2 || len(res.Candidates) != 2 {
			t.Errorf("%+v", res)
		}
		for i, name := range []string{"title", "photo"} {
			l := res.Legs[i]
			if l.Name != name || l.Outcome != category.Answered || l.Label != "Shirts" || l.Attempts != 1 || l.Model.Name != name {
				t.Errorf("%+v", l)
			}
		}
	})
}

func TestLegsRunAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		slow := func(http.ResponseWriter, *http.Request, int) bool { time.Sleep(time.Second); return false }
		w.title.before, w.photo.before = slow, slow
		start := time.Now()
		if _, err := w.Compose(t.Context(), both()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("two legs of a second each took %s", took)
		}
	})
}

// A leg is sent everything until it says what it reads, then only that.
func TestSendsWhatALegReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		p := both()
		p.Brand, p.Attributes = "Acme", map[string]string{"colour": "red", "season": "summer"}
		p.JSON = []byte(`{"id":"p1","title":"red shirt", "brand":"Acme"}`)
		for range 2 {
			if _, err := w.Compose(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		title := w.title.requests()
		if string(title[0].body) != string(p.JSON) {
			t.Errorf("first %s, want the product's bytes as they came", title[0].body)
		}
		if diff := cmp.Diff(product.Product{ID: "p1", Title: "red shirt", Attributes: map[string]string{"colour": "red"}}, title[1].product); diff != "" {
			t.Error(diff)
		}
		photo := w.photo.requests()
		if photo[1].contentType != "image/png" || string(photo[1].body) != string(png) {
			t.Errorf("second: %s, %d bytes; want the picture as it is", photo[1].contentType, len(photo[1].body))
		}
	})
}

// When a new revision reads more, an answer that was made without it is not
// used.
func TestANewRevisionReadsMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		p := both()
		p.Brand = "Acme"
		if _, err := w.Compose(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		w.title.setReads("title", "brand")
		res, err := w.Compose(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		got := w.title.requests()
		if len(got) != 3 || got[1].product.Brand != "" || got[2].product.Brand != "Acme" {
			t.Errorf("requests: %+v", got)
		}
		if res.Legs[0].Outcome != category.Answered || res.Legs[0].Attempts != 2 {
			t.Errorf("%+v", res.Legs[0])
		}
	})
}

func TestSkips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		p := Product{Product: product.Product{Title: "red shirt"}}
		for i := range 2 {
			res, err := w.Compose(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if l := res.Legs[1]; l.Outcome != category.Skipped || !strings.Contains(l.Reason, "images") || res.Status != category.Complete {
				t.Errorf("%d: %s %+v", i, res.Status, l)
			}
			// One leg alone keeps its own calibrated probability.
			if math.Abs(res.Category.Confidence-0.9) > 1e-9 {
				t.Errorf("confidence %v", res.Category.Confidence)
			}
		}
		if n := len(w.photo.requests()); n != 1 {
			t.Errorf("the photo leg was asked %d times; once is enough to learn that it reads images", n)
		}
	})
}

func TestNothingForAnyLeg(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		w.title.setReads("brand")
		_, err := w.Compose(t.Context(), Product{Product: product.Product{Title: "red shirt"}})
		var p *problem.Error
		if !errors.As(err, &p) || p.Status != 422 || p.Type != problem.TypeNothingToRead {
			t.Errorf("got %+v", err)
		}
	})
}

// A leg that reads neither title nor image still gets a valid product.
func TestALegThatReadsOnlyABrand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		w.title.setReads("brand")
		for _, p := range []product.Product{
			{Title: "red shirt", Brand: "Acme"},
			{Title: "red shirt", Brand: "Acme"},
			{Brand: "Acme", Images: []product.Image{{Data: png}}},
		} {
			res, err := w.Compose(t.Context(), Product{Product: p})
			if err != nil || res.Legs[0].Outcome != category.Answered {
				t.Fatalf("%v %+v", err, res.Legs)
			}
		}
	})
}

func TestColdStartIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, twoLegs)
		w.photo.before = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Header().Add("Server-Timing", "model;dur=0.6")
			w.Header().Add("Server-Timing", `queue;desc="a", wake;dur=41.5`)
			return false
		}
		res, err := w.Compose(t.Context(), both())
		if err != nil || res.Legs[1].ColdMs != 41.5 || res.Legs[0].ColdMs != 0 {
			t.Errorf("%v %+v", err, res.Legs)
		}
	})
}
