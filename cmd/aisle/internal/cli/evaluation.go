package cli

import (
	"slices"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/score"
)

// evaluation keeps what the figures need: a few bytes per product.
type evaluation struct {
	classes map[string]int32
	names   []string // of the classes
	legs    []string // in the composition's order
	byLeg   map[string][]score.Answer
	fused   []score.Answer
	empty   int
	back    *backer

	// The same over the products that every leg answered: there legs and
	// fused can be compared.
	allByLeg map[string][]score.Answer
	allFused []score.Answer
}

func newEvaluation() *evaluation {
	return &evaluation{classes: map[string]int32{}, byLeg: map[string][]score.Answer{}, allByLeg: map[string][]score.Answer{}}
}

func (e *evaluation) class(name string) int32 {
	c, ok := e.classes[name]
	if !ok {
		c = int32(len(e.names))
		e.classes[name] = c
		e.names = append(e.names, name)
	}
	return c
}

// add takes an answer to a product whose category is truth. Of one that backed
// off it takes the likeliest label: the figures are of leaves.
func (e *evaluation) add(truth string, r category.Result) error {
	if r.Category == nil {
		return nil
	}
	label, confidence := r.Category.Label, r.Category.Confidence
	if r.Category.BackedOff && len(r.Candidates) > 0 {
		label, confidence = r.Candidates[0].Label, r.Candidates[0].Probability
	}
	right := e.class(truth)
	fused := score.Answer{Truth: right, Said: e.class(label), Confidence: confidence}
	e.fused = append(e.fused, fused)
	all := everyLegAnswered(r)
	if all {
		e.allFused = append(e.allFused, fused)
	}
	for _, l := range r.Legs {
		if _, known := e.byLeg[l.Name]; !known {
			e.legs = append(e.legs, l.Name)
			e.byLeg[l.Name] = nil
		}
		if l.Outcome != category.Answered {
			continue
		}
		said := score.Answer{Truth: right, Said: e.class(l.Label), Confidence: l.Confidence}
		e.byLeg[l.Name] = append(e.byLeg[l.Name], said)
		if all {
			e.allByLeg[l.Name] = append(e.allByLeg[l.Name], said)
		}
	}
	return e.back.add(truth, r)
}

// everyLegAnswered is whether all legs that count did.
func everyLegAnswered(r category.Result) bool {
	return !slices.ContainsFunc(r.Legs, func(l category.Leg) bool { return !l.Shadow && l.Outcome != category.Answered })
}

// figures are how right answers are.
type figures struct {
	N                int              `json:"n"`
	Accuracy         float64          `json:"accuracy"`
	AccuracyInterval score.Interval   `json:"accuracyInterval"`
	MacroF1          float64          `json:"macroF1"`
	MacroF1Interval  score.Interval   `json:"macroF1Interval"`
	ECE              float64          `json:"ece"`
	ECEInterval      score.Interval   `json:"eceInterval"`
	Coverage         []score.Coverage `json:"coverage"` // at each of precisions
}

// seed makes the bootstrap's intervals the same for the same answers.
const seed = 1

// precisions are those that coverage is told at.
var precisions = []float64{0.95, 0.99}

func figuresOf(answers []score.Answer) figures {
	n := len(answers)
	accuracy := score.Accuracy(answers)
	b := score.Bootstrap(answers, seed)
	f := figures{
		N: n, Accuracy: accuracy, AccuracyInterval: score.Wilson(int(accuracy*float64(n)+0.5), n),
		MacroF1: score.MacroF1(answers), MacroF1Interval: b.MacroF1,
		ECE: score.ECE(answers), ECEInterval: b.ECE,
	}
	for _, p := range precisions {
		f.Coverage = append(f.Coverage, score.CoverageAt(answers, p, seed))
	}
	return f
}

// report is the result of an evaluation.
type report struct {
	File       string             `json:"file"`
	Masked     bool               `json:"masked"`
	Stored     bool               `json:"stored,omitempty"` // nobody was asked
	Products   int                `json:"products"`
	Empty      int                `json:"empty,omitempty"` // the mask left nothing to read
	Failed     int                `json:"failed"`
	Seconds    float64            `json:"seconds"`
	Legs       map[string]figures `json:"legs"`
	Fused      figures            `json:"fused"`
	Complete   *complete          `json:"complete,omitempty"` // where not all legs answered all products
	Confusions []confused         `json:"confusions"`         // of fused, the most frequent
	Gate       *gateReport        `json:"gate,omitempty"`     // of --gate-sweep
	Backoff    *backoffReport     `json:"backoff,omitempty"`  // of --backoff
	Failures   []failure          `json:"failures,omitempty"`

	order []string
}

// complete is the figures over the products that every leg answered.
type complete struct {
	Legs  map[string]figures `json:"legs"`
	Fused figures            `json:"fused"`
}

// confused is how often one class was taken for another.
type confused struct {
	Truth string  `json:"truth"`
	Said  string  `json:"said"`
	Count int     `json:"count"`
	Share float64 `json:"share"` // of the products that are of the class
}

// shownConfusions is how many pairs are told.
const shownConfusions = 10

func (e *evaluation) report(name string, masked bool, t *tally) report {
	r := report{File: name, Masked: masked, Products: t.Products, Empty: e.empty, Failed: t.Failed, Seconds: t.Seconds,
		Legs: map[string]figures{}, Fused: figuresOf(e.fused), Confusions: []confused{}, Failures: t.Failures, order: e.legs}
	for _, leg := range e.legs {
		r.Legs[leg] = figuresOf(e.byLeg[leg])
	}
	if n := len(e.allFused); n > 0 && n < len(e.fused) {
		r.Complete = &complete{Legs: map[string]figures{}, Fused: figuresOf(e.allFused)}
		for _, leg := range e.legs {
			r.Complete.Legs[leg] = figuresOf(e.allByLeg[leg])
		}
	}
	r.Backoff = e.back.report(r.Fused)
	of := map[int32]int{}
	for _, a := range e.fused {
		of[a.Truth]++
	}
	all := score.Confusions(e.fused)
	for _, c := range all[:min(len(all), shownConfusions)] {
		r.Confusions = append(r.Confusions, confused{e.names[c.Truth], e.names[c.Said], c.Count, float64(c.Count) / float64(of[c.Truth])})
	}
	return r
}
