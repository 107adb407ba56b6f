package cli

import (
	"errors"
	"fmt"
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
	return newAnswerTable(a.out)
}

// eventLines writes category events in the JSON format of CloudEvents: one a
// line, or as an array. A product that failed has none.
type eventLines struct {
	*app
	array, any bool
}

func (l *eventLines) add(a delivery.Answer) error {
	if a.Err != nil {
		return nil // listed at the end, on standard error
	}
	_, text, err := event.Encode(a.Event, true)
	if err != nil {
		return err
	}
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

// answerTable is for people.
type answerTable struct {
	screen screen.Screen
	stream *screen.Stream
	any    bool
}

func newAnswerTable(s screen.Screen) *answerTable {
	return &answerTable{screen: s, stream: screen.NewStream(s, []screen.Column{
		{Name: "TITLE", Min: 14, Share: 4},
		{Name: "CATEGORY", Min: 14, Share: 3, Left: true},
		{Name: "SURE", Min: 4, Right: true},
		{Name: "LEGS", Min: 16, Share: 6},
		{Name: "START", Min: 11},
		{Name: "MS", Min: 5, Right: true},
	})}
}

func (t *answerTable) add(a delivery.Answer) error {
	if !t.any {
		t.stream.Header()
		t.any = true
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
	c := a.Result.Category
	t.stream.Row(
		screen.Cell{Text: title},
		screen.Cell{Text: strings.Join(c.Path, " > "), Colour: screen.Bold},
		sure(c.Confidence),
		screen.Cell{Text: legs(a.Result.Legs), Colour: legColour(a.Result.Legs)},
		startCell(a.ColdMs()),
		screen.Cell{Text: fmt.Sprintf("%.1f", ms(a.Took))},
	)
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

// legs says what each leg said: "title Shirts 0.98, photo Tshirts 0.61".
func legs(all []category.Leg) string {
	var parts []string
	for _, l := range all {
		switch l.Outcome {
		case category.Answered:
			parts = append(parts, fmt.Sprintf("%s %s %.2f", l.Name, l.Label, l.Confidence))
		case category.Skipped:
			parts = append(parts, l.Name+" -")
		default:
			parts = append(parts, l.Name+" failed")
		}
	}
	return strings.Join(parts, ", ")
}

func legColour(all []category.Leg) screen.Colour {
	for _, l := range all {
		if l.Outcome == category.LegFailed {
			return screen.Yellow
		}
	}
	return screen.Dim
}
