package reviewing

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/review"
)

// Row is a decision as a row of a dataset: the product and its category, as
// feeds have them and evaluate, compose fit and training read them.
type Row struct {
	product.Product
	Category string `json:"category"`
}

// NewRow is false where there is nothing to learn from: a product whose only
// picture came as bytes.
func NewRow(d review.Decision) (Row, bool) {
	return Row{d.Product, d.Category.Label}, d.Product.Validate() == nil
}

// WriteRow writes a row as one line of NDJSON.
func WriteRow(w io.Writer, r Row) error {
	text, err := json.Marshal(r)
	if err == nil {
		_, err = w.Write(append(text, '\n'))
	}
	return err
}

// Export writes the dataset of the decisions among events, the last about each
// product. events passes all of them, in the order in which they were stored,
// each time it is called. Skipped are those of which there is nothing to learn.
func Export(w io.Writer, asCSV bool, events func(each func(ce.Event) error) error) (rows, skipped int, err error) {
	last := map[string]int{} // the place of a product's last decision
	attributes := map[string]bool{}
	each := func(do func(n int, key string, d review.Decision) error) error {
		n := 0
		return events(func(ev ce.Event) error {
			if ev.Type() != event.TypeReviewed {
				return nil
			}
			d, err := review.Decode(ev.Data())
			if err != nil {
				return nil // it is told where it is read for the queue
			}
			n++
			return do(n, Item{Review: d.Review, Product: d.Product}.ID(), d)
		})
	}
	err = each(func(n int, key string, d review.Decision) error {
		if last[key] = n; len(last) > MaxDecisions {
			return fmt.Errorf("there are more than %d products", MaxDecisions)
		}
		for name := range d.Product.Attributes {
			if attributes[name] = true; len(attributes) > 4*product.MaxAttributes && asCSV {
				return fmt.Errorf("the products have more than %d attributes altogether: a CSV file would have a column for each; write NDJSON", 4*product.MaxAttributes)
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	write := func(r Row) error { return WriteRow(w, r) }
	out := csv.NewWriter(w)
	if asCSV {
		names := slices.Sorted(maps.Keys(attributes))
		header := []string{"id", "title", "description", "brand", "image", "category"}
		for _, name := range names {
			header = append(header, "attributes."+name)
		}
		if err := out.Write(header); err != nil {
			return 0, 0, err
		}
		write = func(r Row) error {
			image := ""
			if len(r.Images) > 0 {
				image = r.Images[0].URL
			}
			cells := []string{r.ID, r.Title, r.Description, r.Brand, image, r.Category}
			for _, name := range names {
				cells = append(cells, r.Attributes[name])
			}
			return out.Write(cells)
		}
	}
	err = each(func(n int, key string, d review.Decision) error {
		if last[key] != n { // there is a later one; one that came since the first look is not in it
			return nil
		}
		row, ok := NewRow(d)
		if !ok {
			skipped++
			return nil
		}
		rows++
		return write(row)
	})
	out.Flush()
	if err == nil {
		err = out.Error()
	}
	return rows, skipped, err
}
