package reliability_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"os"
	"strings"
	"testing"

	"aisle.dev/aisle/cmd/aisle/internal/reliability"
	"aisle.dev/aisle/internal/score"
)

var diagram = reliability.Diagram{
	Title: "How sure, and how often right",
	Series: []reliability.Series{
		{Label: `title: accuracy 0.981, <n> & "7"`, Bins: []score.Bin{{N: 2, Confidence: .5, Accuracy: .4}, {N: 2, Confidence: .9, Accuracy: .95}, {N: 3, Confidence: 1, Accuracy: 1}}},
		{Label: "fused", Bins: []score.Bin{{N: 7, Confidence: .7, Accuracy: .72}}},
	},
}

func TestSVG(t *testing.T) {
	out, err := diagram.Draw(true)
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
	if want := 4 + 2; circles != want { // one per bin, one per series in the legend
		t.Errorf("%d circles, want %d", circles, want)
	}
	if !strings.Contains(text.String(), diagram.Series[0].Label) {
		t.Errorf("the legend is not in the text: %s", text.String())
	}
}

func TestPNG(t *testing.T) {
	out, err := diagram.Draw(false)
	if err != nil {
		t.Fatal(err)
	}
	im, err := png.Decode(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv("LOOK"); dir != "" { // to be looked at
		if err := os.WriteFile(dir+"/diagram.png", out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The bin that is sure 0.9 and right 0.95 is a dot of the first colour.
	r, g, b, _ := im.At(80+540, 84+30).RGBA()
	if r>>8 != 0x00 || g>>8 != 0x72 || b>>8 != 0xb2 {
		t.Errorf("the dot's colour is %x %x %x", r>>8, g>>8, b>>8)
	}
	r, g, b, _ = im.At(80+100, 84+60).RGBA()
	if r>>8 != 0xff || g>>8 != 0xff || b>>8 != 0xff {
		t.Errorf("the background is %x %x %x", r>>8, g>>8, b>>8)
	}
}

func TestKnown(t *testing.T) {
	for name, want := range map[string]bool{"a.png": true, "a.SVG": true, "a.jpg": false, "png": false} {
		if got := reliability.Known(name); got != want {
			t.Errorf("Known(%s) = %v", name, got)
		}
	}
}
