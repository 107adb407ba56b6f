// Package category is what the composer answers, on the wire: one category
// for one product, and honestly how it came about. It is the data of a
// dev.aisle.category.v1 event; it links nothing but the standard library.
package category

import (
	"bytes"
	_ "embed"

	"aisle.dev/aisle/internal/prediction"
)

// Status says how complete an answer is.
type Status string

const (
	Complete Status = "complete" // no leg failed
	Partial  Status = "partial"  // at least one leg answered and at least one failed
	Failed   Status = "failed"   // legs failed and none answered; there is no category
)

// Outcome says what became of one leg.
type Outcome string

const (
	Answered  Outcome = "answered"
	Skipped   Outcome = "skipped" // the product has nothing that the leg reads
	LegFailed Outcome = "failed"
)

//go:embed category.schema.json
var schema []byte

// Schema returns the JSON Schema (2020-12) of a [Result].
func Schema() []byte { return bytes.Clone(schema) }

// SchemaPath is where the composer serves [Schema].
const SchemaPath = "/schemas/category.v1.json"

// Result is the composer's answer for one product.
type Result struct {
	ID          string                  `json:"id,omitempty"` // the product's id, if it had one
	Status      Status                  `json:"status"`
	Category    *Category               `json:"category"`             // null when Status is failed
	Candidates  []prediction.Prediction `json:"candidates,omitempty"` // the best few fused, the category first
	Legs        []Leg                   `json:"legs"`                 // in the composition's order, every one of them
	Composition Composition             `json:"composition"`
	DurationMs  float64                 `json:"durationMs"` // the composer's own time for this product
}

// Category is a node of the taxonomy and how sure the composition is of it.
type Category struct {
	ID         string   `json:"id,omitempty"` // the taxonomy's id; empty when the taxonomy does not know the label
	Label      string   `json:"label"`
	Path       []string `json:"path"`       // from the root to the label itself
	Confidence float64  `json:"confidence"` // calibrated probability in [0, 1]
}

// Leg is one classifier's part in the answer.
type Leg struct {
	Name       string            `json:"name"`
	Service    string            `json:"service"`
	Outcome    Outcome           `json:"outcome"`
	Weight     float64           `json:"weight,omitempty"`     // in the composition; above 0
	Label      string            `json:"label,omitempty"`      // its own best label
	Confidence float64           `json:"confidence,omitempty"` // of that label, in [0, 1]
	Model      *prediction.Model `json:"model,omitempty"`
	LatencyMs  float64           `json:"latencyMs"`
	ColdMs     float64           `json:"coldMs,omitempty"` // of the latency, what was spent waiting for a pod to start
	// ColdPhases takes the start apart of the pod that was waited for last, where
	// the place that ran it told: the queue, the launch, the runtime, the model...
	ColdPhases []Phase `json:"coldPhases,omitempty"`
	Attempts   int     `json:"attempts,omitempty"`
	Reason     string  `json:"reason,omitempty"` // why it was skipped or failed
}

// Phase is one phase of a pod's start.
type Phase struct {
	Name string  `json:"name"`
	Ms   float64 `json:"ms"`
}

// Composition names the composition that answered.
type Composition struct {
	Name   string `json:"name"`
	Digest string `json:"digest"` // "sha256:..." of the composition file followed by its taxonomy and its prior
}
