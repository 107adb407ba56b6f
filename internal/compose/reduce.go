package compose

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/problem"
)

// candidates is how many of the fused labels an answer lists, unless more are
// asked for.
const candidates = 5

// AllPredictions asks for the whole distributions.
const AllPredictions = math.MaxInt

// predictionsAsked reads the predictions of a query: a number, or all.
func predictionsAsked(query url.Values) (int, error) {
	v := query.Get("predictions")
	switch v {
	case "":
		return 0, nil
	case "all":
		return AllPredictions, nil
	}
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil || n == 0 {
		return 0, problem.New(http.StatusBadRequest, "predictions=%.40q: want how many of each leg's to list, 1 or more, or all", v)
	}
	return int(n), nil
}

// likeliest gives the first n predictions by falling probability, equals in
// their order.
func likeliest(ps []prediction.Prediction, n int) []prediction.Prediction {
	if n == 0 {
		return nil
	}
	sorted := slices.SortedStableFunc(slices.Values(ps), func(a, b prediction.Prediction) int { return cmp.Compare(b.Probability, a.Probability) })
	return sorted[:min(n, len(sorted))]
}

// reduce makes one answer of the legs' results. It is pure.
func (c *Composer) reduce(p Product, results []result) (category.Result, error) {
	out := category.Result{
		ID:          p.ID,
		Status:      category.Complete,
		Legs:        make([]category.Leg, len(results)),
		Composition: category.Composition{Name: c.spec.Name, Digest: c.spec.Digest},
	}
	lists := make([][]prediction.Prediction, 0, len(results)) // of the legs that count
	var answered, failed int
	var refused *problem.Error
	for i := range results {
		r := &results[i]
		out.Legs[i] = r.Leg
		out.Legs[i].Weight = c.legs[i].Weight
		out.Legs[i].Predictions = likeliest(r.predictions, p.Predictions)
		if r.Shadow {
			continue
		}
		lists = append(lists, r.predictions)
		switch r.Outcome {
		case category.Answered:
			answered++
		case category.LegFailed:
			failed++
			if r.refused != nil && refused == nil {
				refused = r.refused
			}
		}
	}
	if refused != nil {
		refused.Extra = map[string]any{"legs": out.Legs}
		return out, refused
	}
	if e := c.lacks(results, answered); e != nil {
		e.Extra = map[string]any{"legs": out.Legs}
		if e.Status == http.StatusServiceUnavailable {
			out.Status = category.Failed
			e.Extra["composition"] = out.Composition
		}
		return out, e
	}
	if failed > 0 {
		out.Status = category.Partial
	}
	pooled, rules, err := c.fuse(p, results, lists)
	out.Rules = rules
	if err != nil {
		return out, err
	}
	out.Candidates = pooled[:min(max(candidates, p.Predictions), len(pooled))]
	out.Category = c.category(pooled)
	out.Review = out.Category.Confidence < c.spec.Threshold
	return out, nil
}

// category is the likeliest label of a distribution, in the taxonomy; where the
// composition backs off, the deepest category that is sure enough, and where none
// is, the likeliest root.
func (c *Composer) category(pooled []prediction.Prediction) *category.Category {
	top := pooled[0]
	tree := c.spec.Taxonomy
	if tree != nil && c.spec.Backoff != nil {
		n, confidence, _ := tree.Answer(pooled, c.spec.Backoff)
		out := &category.Category{ID: n.ID, Label: n.Label, Path: n.Path, Confidence: confidence, Level: n.Level, BackedOff: n.Label == ""}
		if out.BackedOff {
			out.Label = n.Name
		}
		if n.ID == "" {
			out.Level = 0
		}
		return out
	}
	out := &category.Category{Label: top.Label, Path: []string{top.Label}, Confidence: top.Probability}
	if leaf, ok := tree.Leaf(top.Label); ok {
		out.ID, out.Path, out.Level = leaf.ID, leaf.Path, len(leaf.Path)
	}
	return out
}

// lacks says why there is no category, of which so many legs answered; nil
// when there is one.
func (c *Composer) lacks(results []result, answered int) *problem.Error {
	var failed, closed, missing []*result // missing: those of both that are required
	for i := range results {
		r := &results[i]
		switch {
		case r.Shadow:
			continue
		case r.Outcome == category.LegFailed:
			failed = append(failed, r)
		case r.Outcome == category.Closed:
			closed = append(closed, r)
		default:
			continue
		}
		if c.legs[i].Required {
			missing = append(missing, r)
		}
	}
	if len(missing) == 0 && answered >= c.spec.Quorum {
		return nil
	}
	few := "no leg answered"
	if answered > 0 {
		few = fmt.Sprintf("%d legs answered, of which the composition wants %d", answered, c.spec.Quorum)
	}
	latest := func(rs []*result) time.Duration {
		return slices.MaxFunc(rs, func(a, b *result) int { return cmp.Compare(a.wait(), b.wait()) }).wait()
	}
	e := &problem.Error{Status: http.StatusServiceUnavailable, Type: problem.TypeClosed}
	switch {
	case len(missing) > 0:
		var names []string
		for _, r := range missing {
			names = append(names, r.Name)
			if r.Outcome != category.Closed {
				e.Type = ""
			}
		}
		e.Detail = fmt.Sprintf("there is no category without leg %s; %s", strings.Join(names, ", "), reasons(results))
		e.RetryAfter = latest(missing)
	case answered+len(failed)+len(closed) < c.spec.Quorum || len(failed)+len(closed) == 0:
		// Those that were skipped would be skipped again.
		what := fmt.Sprintf("only %d legs are for the product, of which the composition wants %d", answered+len(failed)+len(closed), c.spec.Quorum)
		if answered+len(failed)+len(closed) == 0 {
			what = "the product has nothing that any leg reads"
		}
		e = problem.New(http.StatusUnprocessableEntity, "%s; %s", what, reasons(results))
		e.Type = problem.TypeNothingToRead
	case len(failed) > 0:
		e.Type = ""
		e.Detail = few + "; " + reasons(results)
		e.RetryAfter = latest(failed)
	case len(closed) > 0:
		if answered == 0 {
			few = "no leg is open that reads something of the product"
		}
		e.Detail = few + "; " + reasons(results)
		e.RetryAfter = slices.MinFunc(closed, func(a, b *result) int { return cmp.Compare(a.wait(), b.wait()) }).wait()
	}
	return e
}

// wait is when to ask a leg again that failed or is closed.
func (r *result) wait() time.Duration {
	if r.Outcome == category.Closed {
		return max(r.patience, time.Second)
	}
	return min(max(r.patience, time.Second), maxPatience)
}

// reasons says in one line what became of the legs that did not answer.
func reasons(legs []result) string {
	var out []string
	for _, l := range legs {
		if l.Reason != "" && !l.Shadow && l.Outcome != category.Answered {
			out = append(out, l.Name+": "+l.Reason)
		}
	}
	return strings.Join(out, "; ")
}
