package reliability

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

func (v *vectorCanvas) line(points []point, c color.RGBA, width float64) {
	v.buf.WriteString(`<polyline fill="none" points="`)
	for i, p := range points {
		if i > 0 {
			v.buf.WriteByte(' ')
		}
		fmt.Fprintf(&v.buf, "%.1f,%.1f", p.x, p.y)
	}
	fmt.Fprintf(&v.buf, `" stroke="%s" stroke-width="%g" stroke-linejoin="round"/>`+"\n", hex(c), width)
}

func (v *vectorCanvas) dot(at point, radius float64, c color.RGBA) {
	fmt.Fprintf(&v.buf, `<circle cx="%.1f" cy="%.1f" r="%g" fill="%s"/>`+"\n", at.x, at.y, radius, hex(c))
}

func (v *vectorCanvas) text(at point, a anchor, size float64, c color.RGBA, s string) {
	fmt.Fprintf(&v.buf, `<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%g" fill="%s">%s</text>`+"\n",
		at.x, at.y, [...]string{"start", "middle", "end"}[a], size, hex(c), html.EscapeString(s))
}

func (v *vectorCanvas) bytes() ([]byte, error) {
	v.buf.WriteString("</svg>\n")
	return v.buf.Bytes(), nil
}
