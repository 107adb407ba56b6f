package draw

import (
	"bytes"
	"fmt"
	"html"
	"image/color"
)

// vectorCanvas writes SVG.
type vectorCanvas struct{ buf bytes.Buffer }

func newVector(w, h int) *vectorCanvas {
	v := &vectorCanvas{}
	fmt.Fprintf(&v.buf, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif">`+"\n"+`<rect width="100%%" height="100%%" fill="white"/>`+"\n", w, h, w, h)
	return v
}

func hex(c color.RGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

func (v *vectorCanvas) Line(points []Point, c color.RGBA, width float64) {
	v.buf.WriteString(`<polyline fill="none" points="`)
	v.points(points)
	fmt.Fprintf(&v.buf, `" stroke="%s" stroke-width="%g" stroke-linejoin="round"/>`+"\n", hex(c), width)
}

func (v *vectorCanvas) Fill(shape []Point, c color.RGBA) {
	v.buf.WriteString(`<polygon points="`)
	v.points(shape)
	fmt.Fprintf(&v.buf, `" fill="%s"/>`+"\n", hex(c))
}

func (v *vectorCanvas) points(all []Point) {
	for i, p := range all {
		if i > 0 {
			v.buf.WriteByte(' ')
		}
		fmt.Fprintf(&v.buf, "%.1f,%.1f", p.X, p.Y)
	}
}

func (v *vectorCanvas) Dot(at Point, radius float64, c color.RGBA) {
	fmt.Fprintf(&v.buf, `<circle cx="%.1f" cy="%.1f" r="%g" fill="%s"/>`+"\n", at.X, at.Y, radius, hex(c))
}

func (v *vectorCanvas) Text(at Point, a Anchor, size float64, c color.RGBA, s string) {
	fmt.Fprintf(&v.buf, `<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%g" fill="%s">%s</text>`+"\n",
		at.X, at.Y, [...]string{"start", "middle", "end"}[a], size, hex(c), html.EscapeString(s))
}

func (v *vectorCanvas) Bytes() ([]byte, error) {
	v.buf.WriteString("</svg>\n")
	return v.buf.Bytes(), nil
}
