//go:build turbo

package imaging

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"aisle.dev/aisle/internal/model"
)

func TestTurboReads(t *testing.T) {
	for _, name := range []string{"base420.jpg", "base422.jpg", "base444.jpg", "progressive.jpg", "grey.jpg", "turned6.jpg"} {
		if !byTurbo(t, mustRead(t, "testdata/"+name)) {
			t.Errorf("%s is left to Go", name)
		}
	}
	for _, name := range []string{"cmyk.jpg", "rgb.png", "lossy.webp"} {
		if byTurbo(t, mustRead(t, "testdata/"+name)) {
			t.Errorf("%s is not left to Go", name)
		}
	}
}

// Grey pictures of any size, laid out in any way: the decoders differ by the
// rounding of their cosine transforms alone, so the resizes can be compared.
func TestTurboEqualsGo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, h := rapid.IntRange(1, 70).Draw(t, "source width"), rapid.IntRange(1, 70).Draw(t, "source height")
		m := image.NewGray(image.Rect(0, 0, w, h))
		slope := rapid.IntRange(1, 9).Draw(t, "slope")
		for y := range h {
			for x := range w {
				m.SetGray(x, y, color.Gray{Y: uint8((slope*x + 2*y) % 256)})
			}
		}
		var data bytes.Buffer
		if err := jpeg.Encode(&data, m, &jpeg.Options{Quality: 100}); err != nil {
			t.Fatal(err)
		}
		head, err := readHeader(data.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		head.orientation = orientation(rapid.IntRange(1, 8).Draw(t, "orientation"))
		spec := levels(rapid.IntRange(1, 40).Draw(t, "width"), rapid.IntRange(1, 40).Draw(t, "height"))
		spec.Resize = rapid.SampledFrom([]string{model.Squash, model.Crop}).Draw(t, "resize")
		spec.CropRatio = rapid.Float64Range(0.3, 1).Draw(t, "ratio")
		spec.Layout = rapid.SampledFrom([]string{model.NCHW, model.NHWC}).Draw(t, "layout")
		spec.Channels = rapid.SampledFrom([]string{model.RGB, model.Grey}).Draw(t, "channels")
		l := newLayout(head, spec)
		const guard = 7
		got, want := make([]float32, spec.Depth()*spec.Width*spec.Height+guard), make([]float32, spec.Depth()*spec.Width*spec.Height)
		if !turbo(got[:len(want)], data.Bytes(), head, l) {
			t.Fatal("it is left to Go")
		}
		if err := decodeTo(want, data.Bytes(), head, l); err != nil {
			t.Fatal(err)
		}
		for i, v := range want {
			if math.Abs(float64(v-got[i])) > 1.05 {
				t.Fatalf("number %d of %d is %v, Go's %v", i, len(want), got[i], v)
			}
		}
		if !slices.Equal(got[len(want):], make([]float32, guard)) {
			t.Fatal("it wrote past the tensor")
		}
	})
}

// A picture that ends early, wherever, is whole or refused in the same words
// as where libjpeg-turbo is not installed; it would make grey of what is not
// there.
func TestTurboLeavesBrokenPicturesToGo(t *testing.T) {
	spec := levels(8, 8)
	dst := make([]float32, 3*8*8)
	for _, name := range []string{"base420.jpg", "progressive.jpg", "turned8.jpg"} {
		data := mustRead(t, "testdata/"+name)
		for cut := 0; cut < len(data); cut += 13 {
			got, want := Tensor(dst, data[:cut], spec), inGo(dst, data[:cut], spec)
			if got == nil || want == nil || got.Error() != want.Error() {
				t.Fatalf("%s, %d of %d bytes: %v, by Go %v", name, cut, len(data), got, want)
			}
		}
		damaged := bytes.Clone(data)
		copy(damaged[len(data)*2/3:], bytes.Repeat([]byte{0xff, 0x12}, 20))
		if byTurbo(t, damaged) {
			t.Errorf("%s, damaged, is not left to Go", name)
		}
	}
}

// The library gets no more memory than it was said to need, whatever the
// picture turns out to be.
func TestTurboIsBounded(t *testing.T) {
	data := mustRead(t, "testdata/progressive.jpg")
	h, err := readHeader(data)
	if err != nil {
		t.Fatal(err)
	}
	l, dst := newLayout(h, levels(1, 1)), make([]float32, 3)
	if !turbo(dst, data, h, l) {
		t.Fatal("it is left to Go")
	}
	h.width++ // another size than was checked
	if turbo(dst, data, h, newLayout(h, levels(1, 1))) {
		t.Error("a picture of another size was read")
	}
	data = mustRead(t, "testdata/large.jpg")
	if h, err = readHeader(data); err != nil {
		t.Fatal(err)
	}
	l = newLayout(h, levels(1, 1))
	if !turbo(dst, data, h, l) {
		t.Error("a large progressive picture is left to Go")
	}
	h.progressive, h.scans = false, 1
	if turbo(dst, data, h, l) {
		t.Error("a progressive picture was read in a baseline one's memory")
	}
	if !decoding.TryAcquire(budget) {
		t.Fatal("the budget was not given back")
	}
	decoding.Release(budget)
}
