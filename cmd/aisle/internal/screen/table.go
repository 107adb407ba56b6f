package screen

import "strings"

// Column is one column of a table.
type Column struct {
	Name  string
	Right bool // aligned right
	Left  bool // too long text is cut at its beginning

	// Min is the least width. Share is the part of the columns that are left
	// over that this one gets; 0 keeps it at Min.
	Min, Share int
}

// Cell is text and how to paint it.
type Cell struct {
	Text   string
	Colour Colour
}

// gap is between two columns.
const gap = "  "

// Stream is a table whose rows are written as they come: widths depend on the
// screen alone.
type Stream struct {
	screen  Screen
	columns []Column
	widths  []int
}

// NewStream lays the columns out; their minima are kept even where the screen
// is narrower.
func NewStream(s Screen, columns []Column) *Stream {
	t := &Stream{screen: s, columns: columns}
	left, shares := s.Width-len(gap)*(len(columns)-1), 0
	for _, c := range columns {
		t.widths = append(t.widths, c.Min)
		left -= c.Min
		shares += c.Share
	}
	for i, c := range columns {
		if left > 0 && c.Share > 0 {
			part := left * c.Share / shares
			t.widths[i] += part
			left -= part
			shares -= c.Share
		}
	}
	return t
}

// Header writes the names of the columns.
func (t *Stream) Header() {
	cells := make([]Cell, len(t.columns))
	for i, c := range t.columns {
		cells[i] = Cell{c.Name, Bold}
	}
	t.Row(cells...)
}

// Row writes one row.
func (t *Stream) Row(cells ...Cell) { t.screen.Printf("%s\n", t.line(cells)) }

func (t *Stream) line(cells []Cell) string {
	var b strings.Builder
	for i, cell := range cells {
		if i > 0 {
			b.WriteString(gap)
		}
		c, w := t.columns[i], t.widths[i]
		text := Cut(cell.Text, w)
		if c.Left {
			text = CutLeft(cell.Text, w)
		}
		pad := strings.Repeat(" ", w-Columns(text))
		switch {
		case c.Right:
			b.WriteString(pad + t.screen.Paint(cell.Colour, text))
		case i == len(cells)-1: // nothing trails
			b.WriteString(t.screen.Paint(cell.Colour, text))
		default:
			b.WriteString(t.screen.Paint(cell.Colour, text) + pad)
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// Write writes a table that is known as a whole: columns are as wide as their
// content. Where the screen is too narrow the last column is cut, on a
// terminal only.
func Write(s Screen, columns []Column, rows [][]Cell) {
	t := &Stream{screen: s, columns: columns}
	used := 0
	for i, c := range columns {
		w := Columns(c.Name)
		for _, row := range rows {
			w = max(w, Columns(Clean(row[i].Text)))
		}
		if i == len(columns)-1 && s.Terminal {
			w = max(Columns(c.Name), min(w, s.Width-used))
		}
		t.widths = append(t.widths, w)
		used += w + len(gap)
	}
	t.Header()
	for _, row := range rows {
		t.Row(row...)
	}
}
