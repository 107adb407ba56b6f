package imaging

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"aisle.dev/aisle/internal/model"
)

// The order of the channels and of the axes moves the same numbers; L is the
// luma of them. Mean and std are in the order of the tensor's channels.
func TestChannelsAndLayout(t *testing.T) {
	const w, h = 6, 4
	for _, file := range []string{"base420.jpg", "turned6.jpg", "grey.jpg", "rgba.png"} {
		data := mustRead(t, "testdata/"+file)
		for way, tensor := range ways {
			plain := make([]float32, 3*w*h)
			if err := tensor(plain, data, levels(w, h)); err != nil {
				t.Fatal(err)
			}
			for _, channels := range []string{model.RGB, model.BGR, model.Grey, ""} {
				for _, layout := range []string{model.NCHW, model.NHWC, ""} {
					spec := model.Image{Width: w, Height: h, Channels: channels, Layout: layout, Scale: new(float32(2)),
						Mean: [3]float32{1, 20, 300}, Std: [3]float32{1, 0.5, 4}}
					got := make([]float32, spec.Depth()*w*h)
					if err := tensor(got, data, spec); err != nil {
						t.Fatal(err)
					}
					for p := range w * h {
						r, g, b := plain[p], plain[w*h+p], plain[2*w*h+p]
						want := []float32{r, g, b}
						switch channels {
						case model.BGR:
							slices.Reverse(want)
						case model.Grey:
							want = []float32{0.299*r + 0.587*g + 0.114*b}
						}
						for c, level := range want {
							at := c*w*h + p
							if layout == model.NHWC {
								at = p*len(want) + c
							}
							v := (level*2 - spec.Mean[c]) / spec.Std[c]
							if math.Abs(float64(got[at]-v)) > 0.01 {
								t.Fatalf("%s by %s as %q %q: pixel %d, channel %d is %v, want %v", file, way, channels, layout, p, c, got[at], v)
							}
						}
					}
				}
			}
		}
	}
}

// Sizes as torchvision's Resize and CenterCrop give them.
func TestCrop(t *testing.T) {
	tests := []struct {
		name     string
		w, h     int // of the picture
		ratio    float64
		tw, th   int
		wantX    window
		wantY    window
		turnedBy orientation
	}{
		{"landscape", 640, 480, 0.875, 224, 224, window{341, 58, 224}, window{256, 16, 224}, 1},
		{"portrait", 480, 640, 0.875, 224, 224, window{256, 16, 224}, window{341, 58, 224}, 1},
		{"lying on its side", 640, 480, 0.875, 224, 224, window{341, 59, 224}, window{256, 16, 224}, 8},
		{"half goes to even", 105, 100, 0, 100, 100, window{105, 2, 100}, window{100, 0, 100}, 1},
		{"no tensor of a square", 150, 131, 0.875, 48, 40, window{54, 3, 48}, window{47, 4, 40}, 1},
		{"a line", 16384, 1, 1, 1024, 1024, window{16384 * 1024, 8388608 - 512, 1024}, window{1024, 0, 1024}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLayout(header{width: tt.w, height: tt.h, orientation: tt.turnedBy},
				model.Image{Width: tt.tw, Height: tt.th, Resize: model.Crop, CropRatio: tt.ratio, Std: [3]float32{1, 1, 1}})
			if l.x != tt.wantX || l.y != tt.wantY {
				t.Errorf("columns %v, rows %v; want %v, %v", l.x, l.y, tt.wantX, tt.wantY)
			}
		})
	}
}

func TestRaw(t *testing.T) {
	spec := model.Image{Width: 48, Height: 40, Mean: [3]float32{0.5, 0.4, 0.3}, Std: [3]float32{0.2, 0.3, 0.4}}
	data, n := mustRead(t, "testdata/rgb.png"), 3*48*40
	bytes, halves := make([]byte, n), make([]byte, 2*n)
	for datatype, dst := range map[string][]byte{"UINT8": bytes, "FP16": halves} {
		if err := Raw(dst, data, spec, datatype); err != nil {
			t.Fatal(err)
		}
		if err := Raw(dst[1:], data, spec, datatype); err == nil {
			t.Errorf("%s into a tensor that is too small was accepted", datatype)
		}
	}
	if err := Raw(halves, data, spec, "FP32"); err == nil {
		t.Error("FP32 was accepted")
	}
	level, normal := mustTensor(t, data, levels(48, 40)), mustTensor(t, data, spec)
	for i := range n {
		if want := byte(math.Round(float64(level[i]))); bytes[i] != want {
			t.Fatalf("UINT8 %d is %d, want %d", i, bytes[i], want)
		}
		if got := binary.LittleEndian.Uint16(halves[2*i:]); math.Abs(fromHalf(got)-float64(normal[i])) > math.Abs(float64(normal[i]))/2048+1e-7 {
			t.Fatalf("FP16 %d is %v, want %v", i, fromHalf(got), normal[i])
		}
	}
}

// fromHalf is binary16 by its definition.
func fromHalf(b uint16) float64 {
	sign, exponent, fraction := 1-2*float64(b>>15), int(b>>10&31), float64(b&1023)
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 31:
		if fraction != 0 {
			return math.NaN()
		}
		return sign * math.Inf(1)
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}

// Every binary16 is itself; halfway to the next goes to the even one.
func TestHalf(t *testing.T) {
	for b := range 0x7c00 {
		v := fromHalf(uint16(b))
		if got := half(float32(v)); got != uint16(b) {
			t.Fatalf("%v is %#04x, want %#04x", v, got, b)
		}
		if got := half(float32(-v)); got != uint16(b)|0x8000 && v != 0 {
			t.Fatalf("%v is %#04x, want %#04x", -v, got, b|0x8000)
		}
		next := fromHalf(uint16(b + 1))
		if b == 0x7bff {
			next = 65536
		}
		if got, even := half(float32((v+next)/2)), uint16(b+b&1); got != even {
			t.Fatalf("%v is %#04x, want %#04x", (v+next)/2, got, even)
		}
	}
	for v, want := range map[float32]uint16{float32(math.Inf(-1)): 0xfc00, 1e30: 0x7c00, 1e-30: 0} {
		if got := half(v); got != want {
			t.Errorf("%v is %#04x, want %#04x", v, got, want)
		}
	}
	if got := half(float32(math.NaN())); !math.IsNaN(fromHalf(got)) {
		t.Errorf("not a number is %#04x", got)
	}
}
