package classify

import (
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"aisle.dev/aisle/internal/preprocess"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/serve"
)

// defaultTop is how many predictions an answer has when the request does not
// say.
const defaultTop = 5

// query is how a request's URL wants it answered.
type query struct {
	top     int // predictions; 0 means all
	explain bool
}

func queryOf(r *http.Request) (query, error) {
	q := query{top: defaultTop}
	if r.URL.RawQuery == "" {
		return q, nil
	}
	var err error
	values := r.URL.Query()
	if q.top, err = topOf(values); err != nil {
		return q, err
	}
	if v := values.Get("explain"); v != "" {
		if q.explain, err = strconv.ParseBool(v); err != nil {
			return q, problem.New(http.StatusBadRequest, "explain is %.40q; want true or false", v)
		}
	}
	return q, nil
}

func topOf(values url.Values) (int, error) {
	switch v := values.Get("top"); v {
	case "":
		return defaultTop, nil
	case "all":
		return 0, nil
	default:
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return 0, problem.New(http.StatusBadRequest, "top is %.40q; want a number of predictions, 1 or more, or all", v)
		}
		return n, nil
	}
}

// classify answers POST /v1/classify: one product, a picture alone, or an
// array of products.
func (c *Classifier) classify(w http.ResponseWriter, r *http.Request) error {
	if c.prep == nil {
		return problem.New(http.StatusUnprocessableEntity, "this model reads no products: it serves tensors only; see /v2/models/%s", c.pkg.Spec.Name)
	}
	q, err := queryOf(r)
	if err != nil {
		return err
	}
	ct := r.Header.Get("Content-Type")
	isImage, err := isPicture(ct)
	if err != nil {
		return err
	}
	limit := c.maxBody
	if isImage {
		limit = min(limit, product.MaxImage)
	}
	ctx := r.Context()
	share, err := c.bodies.Take(ctx, r, limit)
	if err != nil {
		return err
	}
	defer share.Release()
	body, err := serve.ReadBody(w, r, limit)
	if err != nil {
		return err
	}
	if !isImage && product.IsMany(body) {
		return c.many(w, r, body, q)
	}

	var t timing
	var asked product.Asked
	s, err := c.onCore(ctx, &t, func() (preprocess.Sample, error) {
		if isImage {
			return c.prep.Raw(body)
		}
		if asked, err = product.DecodeAsked(body); err != nil {
			return nil, err
		}
		return c.prep.Product(ctx, asked.Product)
	})
	if err != nil {
		return err
	}
	share.Release() // what is queued is bounded by the slots
	explain := q.explain || asked.Explain
	if explain && c.pictures {
		s.Release()
		return noExplanation()
	}
	p, err := c.ask(ctx, s, &t)
	if err != nil {
		return err
	}
	res := c.result(asked.ID, p, q.top)
	if explain {
		if res.Explanation, err = c.explain(ctx, asked.Product, p); err != nil {
			return err
		}
	}
	w.Header().Set("Server-Timing", t.header())
	return writeJSON(w, res)
}

// isPicture reports whether a body of this Content-Type is a picture alone,
// and not JSON.
func isPicture(contentType string) (bool, error) {
	if contentType == "" {
		return false, nil
	}
	mt, _, err := mime.ParseMediaType(contentType)
	isImage := strings.HasPrefix(mt, "image/")
	if err != nil || !isImage && mt != "application/json" {
		return false, problem.New(http.StatusUnsupportedMediaType, "the Content-Type %.80q is not read here; send a product as application/json, or a picture as image/*", contentType)
	}
	return isImage, nil
}
