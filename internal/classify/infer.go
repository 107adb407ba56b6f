package classify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"golang.org/x/sync/errgroup"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/oip"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/problem"
)

// models are what the Open Inference Protocol serves: the graph's tensors
// under the package's name, and products under that name with -products.
func (c *Classifier) models() []oip.Model {
	all := []oip.Model{graph{c}}
	if c.prep != nil {
		all = append(all, products{c})
	}
	return all
}

// describe is what both models have in common.
func (c *Classifier) description(suffix string) oip.Description {
	d := oip.Description{Name: c.pkg.Spec.Name + suffix, Versions: []string{c.pkg.Spec.Version}, Platform: "onnx_onnxv1",
		Parameters: map[string]string{"digest": c.pkg.Digest}}
	if c.started() == nil {
		d.Parameters["device"] = c.device
	}
	return d
}

// graph is the graph's own tensors.
type graph struct{ c *Classifier }

// Describe implements [oip.Model].
func (g graph) Describe() oip.Description {
	d := g.c.description("")
	for _, in := range g.c.pkg.Spec.Inputs {
		d.Inputs = append(d.Inputs, port(in))
	}
	for _, out := range g.c.pkg.Spec.Outputs {
		d.Outputs = append(d.Outputs, port(out.Tensor))
	}
	return d
}

func port(t model.Tensor) oip.Port {
	return oip.Port{Name: t.Name, Datatype: t.Datatype, Shape: t.Shape}
}

// Ready implements [oip.Model].
func (g graph) Ready() error { return g.c.started() }

// Infer implements [oip.Model]. Requests whose tensors have the same shape but
// for their first dimension share a batch, where the package's batch sizes say
// that this is what the dimension is for.
func (g graph) Infer(ctx context.Context, r oip.Request) ([]onnx.Tensor, error) {
	if err := g.c.started(); err != nil {
		return nil, err
	}
	j := &job{ctx: ctx, in: r.Inputs}
	j.rows, j.group = rowsOf(r.Inputs)
	j.alone = j.rows < 1 || j.rows > g.c.queue.largest || !g.c.batches()
	j.rows = max(1, j.rows)
	if err := g.c.do(j); err != nil {
		if ctx.Err() != nil || errors.Is(err, onnx.ErrClosed) {
			return nil, err
		}
		if _, ok := errors.AsType[*problem.Error](err); ok {
			return nil, err
		}
		// The tensors are as declared: it is their content that the graph
		// cannot take, such as an id that is in no table.
		return nil, problem.New(http.StatusUnprocessableEntity, "the graph cannot be run on these tensors: %.300s", err)
	}
	out := make([]onnx.Tensor, len(r.Outputs))
	for i, k := range r.Outputs {
		out[i] = j.out[k]
	}
	return out, nil
}

// batches reports whether the first dimension of all tensors is the batch.
func (c *Classifier) batches() bool {
	if c.queue.largest == 1 {
		return false
	}
	for _, t := range c.pkg.Spec.Inputs {
		if len(t.Shape) == 0 || t.Shape[0] != -1 {
			return false
		}
	}
	for _, t := range c.pkg.Spec.Outputs {
		if len(t.Shape) == 0 || t.Shape[0] != -1 {
			return false
		}
	}
	return true
}

// rowsOf gives the first dimension that all tensors have, 0 where they differ,
// and the group of tensors that are equal but for that.
func rowsOf(in []onnx.Tensor) (rows int, group string) {
	key := []byte("tensors")
	for i, t := range in {
		if len(t.Shape) == 0 || i > 0 && t.Shape[0] != int64(rows) {
			return 0, ""
		}
		rows = int(t.Shape[0])
		key = append(append(key, ' '), t.Type()...)
		if t.Raw != nil {
			key = append(key, '*') // its elements are in another slice
		}
		for _, d := range t.Shape[1:] {
			key = strconv.AppendInt(append(key, 'x'), d, 10)
		}
	}
	return rows, string(key)
}

// products takes products, as JSON texts, and gives the likeliest labels of
// each.
type products struct{ c *Classifier }

// Describe implements [oip.Model].
func (p products) Describe() oip.Description {
	d := p.c.description("-products")
	d.Inputs = []oip.Port{{Name: "product", Datatype: onnx.BYTES, Shape: []int64{-1}}}
	d.Outputs = []oip.Port{{Name: "label", Datatype: onnx.BYTES, Shape: []int64{-1, -1}}, {Name: "probability", Datatype: onnx.FP32, Shape: []int64{-1, -1}}}
	return d
}

// Ready implements [oip.Model].
func (p products) Ready() error { return p.c.started() }

// Infer implements [oip.Model]: product [n], each the JSON text of one, becomes
// label and probability, [n, k] by falling probability. k is the parameter
// top, 5 where it is not given. The protocol has no errors by element: one
// product that is refused refuses the request.
func (p products) Infer(ctx context.Context, r oip.Request) ([]onnx.Tensor, error) {
	c := p.c
	if err := c.started(); err != nil {
		return nil, err
	}
	k, err := topParameter(r.Parameters)
	if err != nil {
		return nil, err
	}
	k = min(k, len(c.decoder.labels))
	texts := r.Inputs[0].Strings
	if len(texts) > MaxProducts {
		return nil, problem.New(http.StatusRequestEntityTooLarge, "there are more than %d products; send them in several requests", MaxProducts)
	}
	atOnce := max(1, min(len(texts), c.slots.share()))
	if err := c.slots.take(atOnce - 1); err != nil { // one it has
		return nil, err
	}
	defer c.slots.give(atOnce - 1)

	answers := make([][]prediction.Prediction, len(texts))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, text := range texts {
		g.Go(func() error {
			res, err := c.one(ctx, []byte(text), k, new(timing))
			if err != nil {
				return nth(err, i, len(texts))
			}
			answers[i] = res.Predictions
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	shape := []int64{int64(len(texts)), int64(k)}
	labels, numbers := make([]string, 0, len(texts)*k), make([]float32, 0, len(texts)*k)
	for _, predictions := range answers {
		for _, p := range predictions {
			labels, numbers = append(labels, p.Label), append(numbers, float32(p.Probability))
		}
	}
	all := []onnx.Tensor{{Shape: shape, Strings: labels}, {Shape: shape, F32: numbers}}
	out := make([]onnx.Tensor, len(r.Outputs))
	for i, k := range r.Outputs {
		out[i] = all[k]
	}
	return out, nil
}

// nth says which of n products a refusal is of.
func nth(err error, i, n int) error {
	if e, ok := errors.AsType[*problem.Error](err); ok && n > 1 {
		named := *e
		named.Detail = fmt.Sprintf("product %d: %s", i, e.Detail)
		return &named
	}
	return err
}

// topParameter is how many labels a request wants.
func topParameter(parameters map[string]any) (int, error) {
	v, given := parameters["top"]
	if !given {
		return defaultTop, nil
	}
	if n, err := strconv.Atoi(fmt.Sprint(v)); err == nil && n >= 1 {
		return n, nil
	}
	return 0, problem.New(http.StatusBadRequest, "the parameter top is %.40v; want a number of labels, 1 or more", v)
}
