package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"aisle.dev/aisle/cmd/aisle/internal/delivery"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
)

// answers writes what comes back, one product at a time, in a format.
type answers interface {
	add(delivery.Answer) error
	end() error
}

func (a *app) answersAs(format string) answers {
	switch format {
	case "ndjson":
		return &eventLines{app: a}
	case "json":
		return &eventLines{app: a, array: true}
	}
	return &answerTable{screen: a.out, start: a.startCell()}
}

// eventLines writes category events in the JSON format of CloudEvents: one a
// line, or as an array. A product that failed has none.
type eventLines struct {
	*app
	array, any bool
}

func (l *eventLines) add(a delivery.Answer) error {
	if a.Err != nil || a.Accepted {
		return nil // told at the end, on standard error
	}
	_, text, err := event.Encode(a.Event, true)
	if err != nil {
		return err
	}
	text = screen.JSON(text)
	before := ""
	if l.array {
		before = ",\n"
		if !l.any {
			before = "[\n"
		}
	}
	l.any = true
	after := "\n"
	if l.array {
		after = ""
	}
	_, err = fmt.Fprintf(l.out, "%s%s%s", before, text, after)
	return err
}

func (l *eventLines) end() error {
	if !l.array {
		return nil
	}
	text := "\n]\n"
	if !l.any {
		text = "[]\n"
	}
	_, err := fmt.Fprint(l.out, text)
	return err
}

// answerTable is for people. Its columns are known with the first answer,
// which names the legs.
type answerTable struct {
	screen screen.Screen
	stream *screen.Stream
	legs   []string
	start  func(coldMs float64) screen.Cell
}

func (t *answerTable) begin(legs []category.Leg) {
	columns := []screen.Column{
		{Name: "TITLE", Min: 12, Share: 4},
		{Name: "CATEGORY", Min: 12, Share: 4, Left: true},
		{Name: "SURE", Min: 4, Right: true},
	}
	for _, l := range legs {
		t.legs = append(t.legs, l.Name)
		columns = append(columns, screen.Column{Name: strings.ToUpper(l.Name) + " SAYS", Min: 11, Share: 2})
	}
	columns = append(columns, screen.Column{Name: "START", Min: 12}, screen.Column{Name: "MS", Min: 6, Right: true})
	t.stream = screen.NewStream(t.screen, columns)
	t.stream.Header()
}

func (t *answerTable) add(a delivery.Answer) error {
	if a.Accepted {
		return nil // told at the end
	}
	title := a.Item.Product.Title
	if strings.TrimSpace(title) == "" {
		title = a.Item.Key()
	}
	if a.Err != nil {
		reason := a.Err
		if inner := errors.Unwrap(reason); inner != nil && a.Item.Err != nil {
			reason = inner // the line is in the list at the end
		}
		_, err := fmt.Fprintf(t.screen, "%s  %s\n", screen.Cut(title, 30), t.screen.Paint(screen.Red, "no category: "+screen.Clean(strings.TrimPrefix(reason.Error(), "no category: "))))
		return err
	}
	if t.stream == nil {
		t.begin(a.Result.Legs)
	}
	c := a.Result.Category
	cells := []screen.Cell{{Text: title}, {Text: strings.Join(c.Path, " > "), Colour: screen.Bold}, sure(c.Confidence)}
	for _, name := range t.legs {
		cells = append(cells, said(a.Result.Legs, name, c.Label))
	}
	t.stream.Row(append(cells, t.start(a.ColdMs()), screen.Cell{Text: fmt.Sprintf("%.1f", ms(a.Took))})...)
	return nil
}

func (t *answerTable) end() error { return nil }

func sure(confidence float64) screen.Cell {
	c := screen.Cell{Text: fmt.Sprintf("%.2f", confidence), Colour: screen.Red}
	switch {
	case confidence >= 0.9:
		c.Colour = screen.Green
	case confidence >= 0.6:
		c.Colour = screen.Yellow
	}
	return c
}

// said is what one leg said: its label and how sure it was.
func said(legs []category.Leg, name, label string) screen.Cell {
	i := slices.IndexFunc(legs, func(l category.Leg) bool { return l.Name == name })
	if i < 0 {
		return screen.Cell{}
	}
	switch l := legs[i]; l.Outcome {
	case category.Answered:
		c := screen.Cell{Text: fmt.Sprintf("%.2f %s", l.Confidence, l.Label)}
		if l.Label == label {
			c.Colour = screen.Dim // what differs is worth looking at
		}
		return c
	case category.Skipped:
		return screen.Cell{Text: "-", Colour: screen.Dim}
	case category.Closed:
		return screen.Cell{Text: string(l.Outcome), Colour: screen.Yellow}
	}
	return screen.Cell{Text: "failed", Colour: screen.Red}
}

// legName is a leg, and which of its two services it is about, if it has two.
func legName(l category.Leg) string {
	if l.Variant == "" {
		return l.Name
	}
	return fmt.Sprintf("%s (%s)", l.Name, l.Variant)
}
