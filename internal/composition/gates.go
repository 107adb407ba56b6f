package composition

import (
	"slices"
	"strings"

	"aisle.dev/aisle/internal/gate"
)

// expression reads a CEL expression about legs of these names; nil when there
// is none.
func expression(v value, legs []string) *gate.Gate {
	text, ok := v.text()
	if !ok {
		return nil
	}
	g, err := gate.Compile(strings.TrimSpace(text), legs)
	if err != nil {
		v.wrong("%v", err)
		return nil
	}
	return g
}

// gates reads the legs' gates, of which there is one place for each leg, and says which legs wait for which: a leg
// starts when those that its gate mentions are done.
func (c *Composition) gates(when []value) {
	names := make([]string, len(c.Legs))
	for i, l := range c.Legs {
		names[i] = l.Name
	}
	for i := range c.Legs {
		l := &c.Legs[i]
		if l.When = expression(when[i], names); l.When == nil {
			continue
		}
		for _, name := range l.When.Mentions() {
			j := slices.Index(names, name)
			if c.Legs[j].Shadow && !l.Shadow {
				when[i].wrong("it mentions the shadow leg %s, which is never waited for", name)
			}
			l.After = append(l.After, j)
		}
	}
	done := make([]bool, len(c.Legs))
	for range c.Legs {
		for i, l := range c.Legs {
			done[i] = done[i] || !slices.ContainsFunc(l.After, func(j int) bool { return !done[j] })
		}
	}
	for i, ok := range done {
		if !ok {
			when[i].wrong("leg %s waits for %s, and that in the end for itself; legs must not wait for each other in a circle", c.Legs[i].Name, strings.Join(c.Legs[i].When.Mentions(), " and "))
		}
	}
}
