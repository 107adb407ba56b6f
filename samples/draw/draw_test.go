package main

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// rendered are all drawings: rendering is slow under the race detector.
var rendered = sync.OnceValues(func() (map[string]*image.RGBA, error) {
	all := map[string]*image.RGBA{}
	for _, d := range drawings {
		im, err := render(d)
		if err != nil {
			return nil, err
		}
		all[d.name] = im
	}
	return all, nil
})

// Every drawing that is committed is the one that this program makes. Other
// processors may round differently, so it is the pixels that are compared.
func TestDrawingsAreCurrent(t *testing.T) {
	files, err := filepath.Glob("../drawings/*.jpg")
	if err != nil || len(files) != len(drawings) {
		t.Errorf("%d files for %d drawings, %v", len(files), len(drawings), err)
	}
	all, err := rendered()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range drawings {
		data, err := encode(all[d.name])
		if err != nil {
			t.Fatal(err)
		}
		committed, err := os.ReadFile(filepath.Join("..", "drawings", d.name+".jpg"))
		if err != nil {
			t.Errorf("%v; run: go run ./samples/draw", err)
			continue
		}
		if bytes.Equal(data, committed) {
			continue
		}
		if far := farthest(t, data, committed); far > 8 {
			t.Errorf("%s.jpg differs by up to %d levels from what is drawn; run: go run ./samples/draw", d.name, far)
		}
	}
}

func farthest(t *testing.T, a, b []byte) int {
	t.Helper()
	decode := func(data []byte) image.Image {
		im, err := jpeg.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		return im
	}
	x, y := decode(a), decode(b)
	if x.Bounds() != y.Bounds() {
		return 255
	}
	far := 0
	for py := range x.Bounds().Dy() {
		for px := range x.Bounds().Dx() {
			p, q := color.GrayModel.Convert(x.At(px, py)).(color.Gray), color.GrayModel.Convert(y.At(px, py)).(color.Gray)
			far = max(far, int(p.Y)-int(q.Y), int(q.Y)-int(p.Y))
		}
	}
	return far
}

// Each drawing is a thing on white: corners are white, and a good part is not.
func TestDrawingsShowSomething(t *testing.T) {
	all, err := rendered()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range drawings {
		im, drawn := all[d.name], 0
		for y := range size {
			for x := range size {
				if im.RGBAAt(x, y) != (color.RGBA{0xff, 0xff, 0xff, 0xff}) {
					drawn++
				}
			}
		}
		if drawn < size*size/12 || drawn > size*size*3/4 {
			t.Errorf("%s covers %d of %d pixels", d.name, drawn, size*size)
		}
		for _, p := range []image.Point{{0, 0}, {size - 1, 0}, {0, size - 1}, {size - 1, size - 1}} {
			if im.RGBAAt(p.X, p.Y) != (color.RGBA{0xff, 0xff, 0xff, 0xff}) {
				t.Errorf("%s is cut off at %v", d.name, p)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, path := range []string{"10 10", "M10", "M10 10 L5", "M1 1 Q2 2", "M1 x"} {
		if _, err := parse(path); err == nil {
			t.Errorf("%q is accepted", path)
		}
	}
}
