package classify

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/preprocess"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

// Bounds of an explanation.
const (
	maxExamined = 64 // parts left out, one inference each
	maxParts    = 10 // told
)

// part is what an explanation leaves out of a product's field: the words
// from..to of a text, or an attribute's whole value.
type part struct {
	prediction.Part
	without product.Product
	words   int
}

func noExplanation() error {
	return problem.New(http.StatusUnprocessableEntity, "explain works by leaving out words, and this classifier reads a picture: which of its pixels spoke for the answer is not told here")
}

// explain finds which words of q speak for the likeliest of the probabilities
// p, by asking the model again without each of them. Each of these inferences
// takes a slot, and waits with all others.
func (c *Classifier) explain(ctx context.Context, q product.Product, p []float64) (*prediction.Explanation, error) {
	likeliest := slices.Index(p, slices.Max(p))
	all := parts(q, c.pkg.Spec.Reads)
	examined := all[:min(len(all), maxExamined, c.slots.share())]
	if err := c.slots.take(len(examined)); err != nil {
		return nil, err
	}
	defer c.slots.give(len(examined))

	var g errgroup.Group
	for i := range examined {
		g.Go(func() error {
			var t timing
			s, err := c.onCore(ctx, &t, func() (preprocess.Sample, error) {
				if !examined[i].without.Has(c.pkg.Spec.Reads) {
					return c.prep.Blank(), nil
				}
				return c.prep.Product(ctx, examined[i].without)
			})
			if err != nil {
				return err
			}
			without, err := c.ask(ctx, s, &t)
			if err != nil {
				return err
			}
			examined[i].Weight = p[likeliest] - without[likeliest]
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return &prediction.Explanation{Label: c.decoder.labels[likeliest], Parts: told(examined), Examined: len(examined), Of: len(all)}, nil
}

// parts are what may be left out of a product: each attribute that is read,
// each word of the other fields, and each two words that stand beside each
// other, in this order: where not all are examined, the single ones are.
func parts(q product.Product, reads []string) []part {
	var attributes, single, double []part
	for _, field := range reads {
		text := q.Field(field)
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		leave := func(from, to int) part {
			rest := slices.Concat(words[:from], words[to:])
			return part{words: to - from, without: q.With(field, strings.Join(rest, " ")),
				Part: prediction.Part{Field: field, Text: strings.Join(words[from:to], " ")}}
		}
		if strings.HasPrefix(field, "attributes.") {
			attributes = append(attributes, leave(0, len(words)))
			continue
		}
		// A part holds the rest of its field: what will not be examined is not
		// made, but counted.
		for i := range min(len(words), maxExamined) {
			single = append(single, leave(i, i+1))
			if i+2 <= len(words) && len(words) > 2 {
				double = append(double, leave(i, i+2))
			}
		}
	}
	return slices.Concat(attributes, single, double)
}

// told are the parts that speak for the label, by falling weight. Two words
// are told where they say more together than each by itself.
func told(examined []part) []prediction.Part {
	alone := map[string]float64{} // by field and word
	for _, p := range examined {
		if p.words == 1 {
			alone[p.Field+" "+p.Text] = max(alone[p.Field+" "+p.Text], p.Weight)
		}
	}
	out := []prediction.Part{}
	for _, p := range examined {
		if first, second, two := strings.Cut(p.Text, " "); p.words == 2 && two {
			if p.Weight <= max(0, alone[p.Field+" "+first])+max(0, alone[p.Field+" "+second]) {
				continue
			}
		}
		if p.Weight > 0 {
			out = append(out, p.Part)
		}
	}
	slices.SortStableFunc(out, func(a, b prediction.Part) int { return cmp.Compare(b.Weight, a.Weight) })
	return out[:min(len(out), maxParts)]
}
