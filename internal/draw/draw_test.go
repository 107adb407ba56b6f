package draw_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/color"
	"image/png"
	"io"
	"testing"

	"aisle.dev/aisle/internal/draw"
)

func picture(t *testing.T, svg bool) []byte {
	t.Helper()
	c, err := draw.New(svg, 100, 50)
	if err != nil {
		t.Fatal(err)
	}
	red := color.RGBA{0xff, 0, 0, 0xff}
	c.Fill(draw.Box(draw.At(10, 10), draw.At(30, 40)), red)
	c.Line([]draw.Point{draw.At(40, 20), draw.At(90, 20)}, red, 4)
	c.Dot(draw.At(60, 40), 5, red)
	c.Text(draw.At(50, 10), draw.Middle, 8, draw.Ink, `<&"`)
	out, err := c.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPNG(t *testing.T) {
	im, err := png.Decode(bytes.NewReader(picture(t, false)))
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string][2]int{"area": {20, 25}, "line": {65, 20}, "dot": {60, 40}} {
		if r, g, b, _ := im.At(at[0], at[1]).RGBA(); r>>8 != 0xff || g != 0 || b != 0 {
			t.Errorf("%s is %x %x %x", name, r, g, b)
		}
	}
	if r, g, b, _ := im.At(5, 45).RGBA(); r&g&b != 0xffff {
		t.Error("the ground is not white")
	}
}

func TestSVG(t *testing.T) {
	seen := map[string]int{}
	for dec := xml.NewDecoder(bytes.NewReader(picture(t, true))); ; {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not XML: %v", err)
		}
		switch e := tok.(type) {
		case xml.StartElement:
			seen[e.Name.Local]++
		case xml.CharData:
			seen[string(e)]++
		}
	}
	for _, want := range []string{"polygon", "polyline", "circle", `<&"`} {
		if seen[want] != 1 {
			t.Errorf("%d of %s", seen[want], want)
		}
	}
}
