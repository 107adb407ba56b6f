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
	Explanation *Explanation `json:"explanation,omitempty"`
}

// Explanation says which words of a product spoke most for its likeliest
// label: those without which the model finds it less likely.
type Explanation struct {
	Label string `json:"label"`
	Parts []Part `json:"parts"` // by falling weight; those that spoke for the label alone
	// Examined is how many parts were left out, one after the other, of Of
	// that the product has: in a long text not all of them are.
	Examined int `json:"examined"`
	Of       int `json:"of"`
}

// Part is a word of a product, or two that stand beside each other, or an
// attribute's value.
type Part struct {
	Field  string  `json:"field"`  // as in a package's reads
	Text   string  `json:"text"`   // as the product has it
	Weight float64 `json:"weight"` // the label's probability, less what it is without this part
}

// Item is the answer for one of many products: a Result, or why there is none.
type Item struct {
	*Result
	Error map[string]any `json:"error,omitempty"` // RFC 9457's members: type, title, status, detail
}

// Top returns the best prediction, or the zero value when there is none.
func (r Result) Top() Prediction {
	if len(r.Predictions) == 0 {
		return Prediction{}
	}
	return r.Predictions[0]
}
