// Package review is what somebody said of a product whose category its
// composition was not sure enough of: the data of a dev.aisle.reviewed.v1
// event, and a row of a dataset.
//
// It holds the product as the review event did: whole, but for the bytes of
// pictures.
package review

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"

	"aisle.dev/aisle/internal/product"
)

// MaxText bounds a label, an id and a name, in bytes.
const MaxText = 1 << 10

//go:embed reviewed.schema.json
var schema []byte

// Schema returns the JSON Schema (2020-12) of a [Decision].
func Schema() []byte { return bytes.Clone(schema) }

// SchemaPath is where the composer serves [Schema].
const SchemaPath = "/schemas/reviewed.v1.json"

// Decision is one product's. Of several about the same review the last one
// holds.
type Decision struct {
	Review   string          `json:"review"` // the id of the review event
	Product  product.Product `json:"product"`
	Category Category        `json:"category"`     // what is right
	Said     Said            `json:"said"`         // what the composition had answered
	Rank     int             `json:"rank"`         // of the right label among its candidates, from 1 on; 0: it is none of them
	By       string          `json:"by,omitempty"` // who decided
}

// Category is a label, and where the taxonomy has it.
type Category struct {
	ID    string   `json:"id,omitempty"`
	Label string   `json:"label"`
	Path  []string `json:"path,omitempty"`
}

// Said is the likeliest label of an answer.
type Said struct {
	Label       string  `json:"label"`
	Confidence  float64 `json:"confidence"`  // in [0, 1]
	Composition string  `json:"composition"` // its digest
}

// Right is whether the likeliest label was right.
func (d Decision) Right() bool { return d.Category.Label == d.Said.Label }

// Decode reads a decision.
func Decode(data []byte) (Decision, error) {
	var d Decision
	if err := json.Unmarshal(data, &d); err != nil {
		return d, fmt.Errorf("it is not the JSON of a decision: %w", err)
	}
	switch {
	case d.Review == "" || len(d.Review) > MaxText:
		return d, errors.New("it does not say which review it is about")
	case d.Category.Label == "" || len(d.Category.Label) > MaxText:
		return d, fmt.Errorf("its label has %d bytes: want 1 to %d", len(d.Category.Label), MaxText)
	}
	return d, nil
}
