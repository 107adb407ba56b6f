// Package prediction is what a classifier answers, on the wire: the label
// probabilities of one product, and which model they come from.
//
// It is shared by the classifier, which writes it, and by the composer and
// the command line, which read it; it links nothing but the standard library.
package prediction

// HeaderReads names the response header in which a classifier declares the
// product fields that its model package reads, comma separated, in the
// package's own order: "title,attributes.gender" or "images". Callers that
// send many products send only these.
const HeaderReads = "Aisle-Reads"

// Prediction is one label and its calibrated probability in [0, 1].
type Prediction struct {
	Label       string  `json:"label"`
	Probability float64 `json:"probability"`
}

// Model names the model that answered.
type Model struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"` // "sha256:" and 64 hex digits, of the whole package
}

// Result is the answer for one product.
type Result struct {
	ID          string       `json:"id,omitempty"` // the product's id, if it had one
	Model       Model        `json:"model"`
	Device      string       `json:"device"`      // "cpu" or "cuda"
	Predictions []Prediction `json:"predictions"` // by falling probability, ties in the package's label order
}

// Top returns the best prediction, or the zero value when there is none.
func (r Result) Top() Prediction {
	if len(r.Predictions) == 0 {
		return Prediction{}
	}
	return r.Predictions[0]
}
