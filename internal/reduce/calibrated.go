package reduce

import (
	"fmt"
	"slices"

	"aisle.dev/aisle/internal/prediction"
)

// MaxPatterns bounds how many patterns a [Calibrated] has.
const MaxPatterns = 1024

// Calibrated corrects how sure a reducer is, by a temperature for each
// pattern of legs present: what one leg, two or all of them say is not wrong
// in the same way. (A pool of calibrated legs is not calibrated: Ranjan and
// Gneiting, see [LinPool].) A temperature never changes which label is first.
//
// A pattern that has no temperature of its own has 1: the reducer's answer
// stands. That is right for one leg alone in [Pool] and [LinPool], which
// answer with the leg's own, calibrated, probabilities, and what Pool's k is
// made for in between; nothing better is known of a pattern that was not
// measured.
type Calibrated struct {
	Reducer  Reducer
	Patterns []Pattern
}

// Pattern is the temperature of what some legs answer together.
type Pattern struct {
	Legs        []int   // indices of those present, rising
	Temperature float64 // in [MinTemperature, MaxTemperature]
}

// Validate says which pattern is wrong, of a composition with so many legs.
func (c Calibrated) Validate(legs int) error {
	if len(c.Patterns) > MaxPatterns {
		return fmt.Errorf("there are %d patterns: want at most %d", len(c.Patterns), MaxPatterns)
	}
	for i, p := range c.Patterns {
		switch {
		case len(p.Legs) == 0:
			return fmt.Errorf("pattern %d has no legs", i)
		case !slices.IsSorted(p.Legs) || p.Legs[0] < 0 || p.Legs[len(p.Legs)-1] >= legs || len(slices.Compact(slices.Clone(p.Legs))) < len(p.Legs):
			return fmt.Errorf("pattern %d has legs %v: want rising numbers from 0 to %d", i, p.Legs, legs-1)
		case slices.ContainsFunc(c.Patterns[:i], func(q Pattern) bool { return slices.Equal(p.Legs, q.Legs) }):
			return fmt.Errorf("pattern %d has legs %v, as one before it", i, p.Legs)
		case !(p.Temperature >= MinTemperature && p.Temperature <= MaxTemperature):
			return fmt.Errorf("pattern %d has temperature %v: want a number from %v to %d", i, p.Temperature, MinTemperature, MaxTemperature)
		}
	}
	return nil
}

// Temperature is that of the legs for which present is true.
func (c Calibrated) Temperature(present func(leg int) bool, legs int) float64 {
	var here []int
	for i := range legs {
		if present(i) {
			here = append(here, i)
		}
	}
	for _, p := range c.Patterns {
		if slices.Equal(p.Legs, here) {
			return p.Temperature
		}
	}
	return 1
}

// Answers tempers what the reducer answers.
func (c Calibrated) Answers(legs [][]prediction.Prediction) []prediction.Prediction {
	out := c.Reducer.Answers(legs)
	t := c.Temperature(func(i int) bool { return len(legs[i]) > 0 }, len(legs))
	if t == 1 {
		return out
	}
	p := make([]float64, len(out))
	for i := range out {
		p[i] = out[i].Probability
	}
	Temper(p, p, t)
	for i := range out {
		out[i].Probability = p[i]
	}
	return out
}
