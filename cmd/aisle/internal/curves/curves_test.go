package curves_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"os"
	"strings"
	"testing"

	"aisle.dev/aisle/cmd/aisle/internal/curves"
	"aisle.dev/aisle/internal/draw"
)

var unit = curves.Axis{To: 1}

var figure = curves.Figure{
	Title:  "How sure, and how often right",
	Legend: []string{`title: accuracy 0.981, <n> & "7"`, "fused"},
	Panels: []curves.Panel{
		{
			Title: "Reliability", X: "how sure", Y: "how often right", XAxis: unit, YAxis: unit, Diagonal: true,
			Curves: []curves.Curve{
				{Points: []draw.Point{draw.At(.5, .4), draw.At(.9, .95), draw.At(1, 1)}, Dots: true},
				{Series: 1, Points: []draw.Point{draw.At(.7, .72)}, Dots: true},
			},
		},
		{
			Title: "Risk", X: "coverage", Y: "risk", XAxis: unit, YAxis: curves.Axis{To: 0.1, Percent: true},
			Levels: []curves.Level{{Y: 0.05, Text: "95 % right"}, {Y: 2, Text: "beyond"}},
			Curves: []curves.Curve{{Points: []draw.Point{draw.At(.1, 0), draw.At(1, .2)}}}, // the last one is cut to the axis
		},
		{Title: "Moves", Bars: []curves.Bar{{Name: "Tops → " + strings.Repeat("Shirts", 20), Parts: []float64{3, 4}}, {Name: "a → b", Parts: []float64{1}}}},
	},
}

func TestSVG(t *testing.T) {
	out, err := figure.Draw(true)
	if err != nil {
		t.Fatal(err)
	}
	circles := 0
	var text strings.Builder
	for dec := xml.NewDecoder(bytes.NewReader(out)); ; {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not XML: %v", err)
		}
		switch e := tok.(type) {
		case xml.StartElement:
			if e.Name.Local == "circle" {
				circles++
			}
		case xml.CharData:
			text.Write(e)
		}
	}
	if want := 4 + 2; circles != want { // one per point of a curve with dots, one per line of the legend
		t.Errorf("%d circles, want %d", circles, want)
	}
	for _, want := range []string{figure.Legend[0], "95 % right", "Tops → Shirts", "…", "7"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in the text: %s", want, text.String())
		}
	}
	if strings.Contains(text.String(), "beyond") {
		t.Error("a level outside of the axis is drawn")
	}
}

func TestPNG(t *testing.T) {
	out, err := figure.Draw(false)
	if err != nil {
		t.Fatal(err)
	}
	im, err := png.Decode(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv("LOOK"); dir != "" { // to be looked at
		if err := os.WriteFile(dir+"/figure.png", out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The bin that is sure 0.9 and right 0.95 is a dot of the first colour.
	r, g, b, _ := im.At(80+432, 96+24).RGBA()
	if r>>8 != 0x00 || g>>8 != 0x72 || b>>8 != 0xb2 {
		t.Errorf("the dot's colour is %x %x %x", r>>8, g>>8, b>>8)
	}
	r, g, b, _ = im.At(80+60, 96+70).RGBA()
	if r>>8 != 0xff || g>>8 != 0xff || b>>8 != 0xff {
		t.Errorf("the background is %x %x %x", r>>8, g>>8, b>>8)
	}
}

func TestKnown(t *testing.T) {
	for name, want := range map[string]bool{"a.png": true, "a.SVG": true, "a.jpg": false, "png": false} {
		if got := curves.Known(name); got != want {
			t.Errorf("Known(%s) = %v", name, got)
		}
	}
}
