package trial

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"aisle.dev/aisle/internal/classify"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/product"
)

// Batches runs a batch of every declared size, and says which do not give what
// the package promises.
func Batches(ctx context.Context, p *model.Package, s *onnx.Session) []error {
	f, err := newFeed(ctx, p, nil, 1)
	if err != nil {
		return []error{err}
	}
	defer f.release()
	var problems []error
	for _, n := range p.Spec.BatchSizes {
		out := make([]onnx.Tensor, len(p.Spec.Outputs))
		if err := s.Run(ctx, f.batch(n), out); err != nil {
			problems = append(problems, fmt.Errorf("a batch of %d does not run: %w", n, err))
			continue
		}
		if p.Spec.Preprocess.Kind == model.None {
			continue
		}
		if o := out[0]; len(o.Shape) != 2 || o.Shape[0] != int64(n) || o.Shape[1] != int64(len(p.Labels)) {
			problems = append(problems, fmt.Errorf("a batch of %d gives %s of shape %v: want [%d, %d], a number for each label", n, p.Spec.Outputs[0].Name, o.Shape, n, len(p.Labels)))
		}
	}
	return problems
}

// Outcome is what an example got.
type Outcome struct {
	Example     int     `json:"example"` // from 1
	Want        string  `json:"want"`
	Label       string  `json:"label,omitempty"`
	Probability float64 `json:"probability,omitempty"`
	Problem     string  `json:"problem,omitempty"` // empty: as wanted
}

// Examples asks the classifier for each of the package's examples.
func Examples(ctx context.Context, p *model.Package, s *onnx.Session) ([]Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := make(chan struct{})
	c, err := classify.New(classify.Options{Package: p, Workers: 1, OnReady: func(string) { close(ready) }})
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: c.Handler()}
	var parts sync.WaitGroup
	defer parts.Wait()
	worked := make(chan error, 1)
	parts.Go(func() { worked <- c.Run(ctx, s) })
	parts.Go(func() { _ = server.Serve(l) }) // until Close
	defer server.Close()
	defer cancel()
	select {
	case <-ready:
	case err := <-worked:
		return nil, errors.Join(err, ctx.Err())
	}
	outcomes := make([]Outcome, len(p.Spec.Examples))
	for i, e := range p.Spec.Examples {
		o := Outcome{Example: i + 1, Want: e.Label}
		best, err := ask(ctx, p, e, "http://"+l.Addr().String())
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			o.Problem = err.Error()
		default:
			o.Label, o.Probability = best.Label, best.Probability
			if o.Label != e.Label {
				o.Problem = fmt.Sprintf("it is taken for %q", o.Label)
			} else if o.Probability < e.AtLeast {
				o.Problem = fmt.Sprintf("the probability is %.6f: want at least %v", o.Probability, e.AtLeast)
			}
		}
		outcomes[i] = o
	}
	return outcomes, nil
}

// ask sends one example and returns the likeliest label.
func ask(ctx context.Context, p *model.Package, e model.Example, at string) (prediction.Prediction, error) {
	var body []byte
	var err error
	kind := "application/json"
	if e.Product != nil {
		body, err = json.Marshal(e.Product)
	} else {
		kind = "image/*"
		body, err = p.Picture(e, product.MaxImage)
	}
	if err != nil {
		return prediction.Prediction{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at+"/v1/classify?top=1", bytes.NewReader(body))
	if err != nil {
		return prediction.Prediction{}, err
	}
	req.Header.Set("Content-Type", kind)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return prediction.Prediction{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return prediction.Prediction{}, err
	}
	if resp.StatusCode != http.StatusOK {
		var refusal struct{ Detail string }
		if json.Unmarshal(data, &refusal) == nil && refusal.Detail != "" {
			return prediction.Prediction{}, errors.New(refusal.Detail)
		}
		return prediction.Prediction{}, fmt.Errorf("the classifier answers %s", resp.Status)
	}
	var r prediction.Result
	if err := json.Unmarshal(data, &r); err != nil {
		return prediction.Prediction{}, err
	}
	if len(r.Predictions) == 0 {
		return prediction.Prediction{}, errors.New("the answer has no prediction")
	}
	return r.Predictions[0], nil
}
