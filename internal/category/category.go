// Package category is what the composer answers, on the wire: one category
// for one product, and honestly how it came about. It is the data of a
// dev.aisle.category.v1 event; it links nothing but the standard library.
package category

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"time"

	"aisle.dev/aisle/internal/prediction"
)

// Status says how complete an answer is.
type Status string

const (
	Complete Status = "complete" // no leg failed; legs may have been skipped or closed
	Partial  Status = "partial"  // at least one leg answered and at least one failed
	Failed   Status = "failed"   // no leg answered, or a required one did not; there is no category
)

// Outcome says what became of one leg.
type Outcome string

const (
	Answered  Outcome = "answered"
	Skipped   Outcome = "skipped" // its gate is false, or the product has nothing that the leg reads
	Closed    Outcome = "closed"  // a schedule keeps its service closed: no failure, and nothing to retry before it opens
	Pending   Outcome = "pending" // a shadow leg, which is not waited for, and had not answered
	LegFailed Outcome = "failed"
)

// Failure says how a leg failed, for programs; Reason says it for people.
type Failure string

const (
	Timeout     Failure = "timeout"     // no answer by its deadline
	Unreachable Failure = "unreachable" // no connection, or one that broke; no such service
	Refused     Failure = "refused"     // it answered, and said no: an error of its own, or the product's fault
	BadAnswer   Failure = "badAnswer"   // it answered something that is no prediction
	CircuitOpen Failure = "circuitOpen" // not asked, since its last requests failed
	Overloaded  Failure = "overloaded"  // it, or the composer, had too much to do
	Internal    Failure = "internal"    // the composer's own fault, or the sender gave up
)

// Variant says which of a leg's two services it was.
type Variant string

const (
	GPU Variant = "gpu"
	CPU Variant = "cpu"
)

// StandIn says why a leg's CPU service was asked, and not its GPU one alone.
type StandIn string

const (
	InsteadOfWaking StandIn = "waking" // the GPU service had not answered by when the leg's rule says: it wakes, or is slow
	InsteadOfClosed StandIn = "closed" // a schedule keeps the GPU service closed
	InsteadOfFailed StandIn = "failed" // the GPU service failed
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
	Candidates  []prediction.Prediction `json:"candidates,omitempty"` // the best few fused, the likeliest first; as many as were asked for
	Review      bool                    `json:"review,omitempty"`     // the confidence is below the composition's threshold: somebody should look
	Rules       []string                `json:"rules,omitempty"`      // names of the composition's rules that applied, in its order
	Legs        []Leg                   `json:"legs"`                 // in the composition's order, every one of them
	Composition Composition             `json:"composition"`
	DurationMs  float64                 `json:"durationMs"` // the composer's own time for this product
	// Product is what is to be looked at: in an event that asks for a review,
	// without the bytes of its pictures. Its JSON is that of internal/product.
	Product json.RawMessage `json:"product,omitempty"`
}

// Category is a node of the taxonomy and how sure the composition is of it.
type Category struct {
	ID         string   `json:"id,omitempty"` // the taxonomy's id; empty when the taxonomy does not know the label
	Label      string   `json:"label"`
	Path       []string `json:"path"`            // from the root to the label itself
	Level      int      `json:"level,omitempty"` // how deep in the taxonomy, its roots being 1; 0 when the taxonomy does not know the label
	Confidence float64  `json:"confidence"`      // calibrated probability in [0, 1]
	// BackedOff: nothing below this category was sure enough; the likeliest
	// label is the first candidate.
	BackedOff bool `json:"backedOff,omitempty"`
}

// Leg is one classifier's part in the answer.
type Leg struct {
	Name       string            `json:"name"`
	Service    string            `json:"service"`           // with variants, the one that answered, or was asked last
	Variant    Variant           `json:"variant,omitempty"` // which of the leg's two services that is; empty: the leg has one
	StandIn    StandIn           `json:"standIn,omitempty"` // why the CPU variant was asked; empty with the GPU one
	Outcome    Outcome           `json:"outcome"`
	Shadow     bool              `json:"shadow,omitempty"`     // recorded, and without any say in the category
	Gate       string            `json:"gate,omitempty"`       // the expression that was false: why it was skipped
	GateError  string            `json:"gateError,omitempty"`  // why its gate could not be told, for which it was asked
	Failure    Failure           `json:"failure,omitempty"`    // how it failed
	Weight     float64           `json:"weight,omitempty"`     // in the composition; above 0, but of a shadow
	Label      string            `json:"label,omitempty"`      // its own best label
	Confidence float64           `json:"confidence,omitempty"` // of that label, in [0, 1]
	Model      *prediction.Model `json:"model,omitempty"`
	LatencyMs  float64           `json:"latencyMs"`
	ColdMs     float64           `json:"coldMs,omitempty"` // of the latency, what was spent waiting for a pod to start
	// ColdPhases takes the start apart of the pod that was waited for last, where
	// the place that ran it told: the queue, the launch, the runtime, the model...
	ColdPhases []Phase   `json:"coldPhases,omitempty"`
	Attempts   int       `json:"attempts,omitempty"`
	Opens      time.Time `json:"opens,omitzero"`   // closed: until when; zero where that is not known
	Reason     string    `json:"reason,omitempty"` // why it was skipped, is closed or failed, or why the CPU variant stands in
	// Predictions are the leg's own, by falling probability: only where they
	// are asked for, and as many.
	Predictions []prediction.Prediction `json:"predictions,omitempty"`
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
