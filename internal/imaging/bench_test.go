package imaging

import (
	"bytes"
	"image"
	"image/jpeg"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/image/draw"

	"aisle.dev/aisle/internal/model"
)

// photos are real ones of 224x224 where the data is, else the drawing.
func photos(b *testing.B) [][]byte {
	b.Helper()
	dir := os.Getenv("AISLE_DATA")
	if dir == "" {
		dir = "../../../shared/data"
	}
	names, _ := filepath.Glob(filepath.Join(dir, "fashion/images/1*.jpg"))
	if len(names) == 0 {
		names = []string{"testdata/base420.jpg"}
	}
	var out [][]byte
	for _, n := range names[:min(len(names), 64)] {
		out = append(out, mustRead(b, n))
	}
	return out
}

var photoSpec = square(128)

func square(side int) model.Image {
	return model.Image{Width: side, Height: side, Mean: [3]float32{0.5, 0.5, 0.5}, Std: [3]float32{0.25, 0.25, 0.25}}
}

// BenchmarkTensor is the whole pipeline, from a JPEG's bytes to a tensor;
// BenchmarkDecode is the Go decoder's part of it, BenchmarkResize Go's rest.
// BenchmarkDrawApproxBiLinear is the rest by x/image/draw's fastest filter that
// looks at several pixels (which is not antialiased). With the tag turbo, the
// first goes through libjpeg-turbo, and BenchmarkGo the other way.
func BenchmarkTensor(b *testing.B) {
	benchmark(b, Tensor)
}

func BenchmarkGo(b *testing.B) {
	benchmark(b, func(dst []float32, data []byte, spec model.Image) error {
		h, err := readHeader(data)
		if err != nil {
			return err
		}
		return decodeTo(dst, data, h, newLayout(h, spec))
	})
}

// benchmark reports the process' CPU time too, which means something on a
// machine that others use as well.
func benchmark(b *testing.B, tensor func([]float32, []byte, model.Image) error) {
	data := photos(b)
	for _, side := range []int{96, 128, 224} {
		b.Run(strconv.Itoa(side), func(b *testing.B) {
			dst := make([]float32, 3*side*side)
			b.ReportAllocs()
			i, before := 0, cpuTime(b)
			for b.Loop() {
				if err := tensor(dst, data[i%len(data)], square(side)); err != nil {
					b.Fatal(err)
				}
				i++
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N)/1e3, "cpu-us/op")
		})
	}
}

func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func BenchmarkDecode(b *testing.B) {
	data := photos(b)
	i := 0
	for b.Loop() {
		if _, err := jpeg.Decode(bytes.NewReader(data[i%len(data)])); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func decoded(b *testing.B) []image.Image {
	var out []image.Image
	for _, d := range photos(b) {
		m, err := jpeg.Decode(bytes.NewReader(d))
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

func BenchmarkResize(b *testing.B) {
	imgs := decoded(b)
	dst := make([]float32, 3*128*128)
	var s scratch
	i := 0
	for b.Loop() {
		m := imgs[i%len(imgs)]
		h := header{format: "jpeg", width: m.Bounds().Dx(), height: m.Bounds().Dy(), orientation: 1}
		s.tensor(dst, m, h, newLayout(h, photoSpec))
		i++
	}
}

func BenchmarkDrawApproxBiLinear(b *testing.B) {
	imgs := decoded(b)
	out := image.NewRGBA(image.Rect(0, 0, 128, 128))
	dst := make([]float32, 3*128*128)
	i := 0
	for b.Loop() {
		m := imgs[i%len(imgs)]
		draw.ApproxBiLinear.Scale(out, out.Rect, m, m.Bounds(), draw.Src, nil)
		for p := range 128 * 128 {
			for c := range 3 {
				dst[c*128*128+p] = (float32(out.Pix[4*p+c])/255 - photoSpec.Mean[c]) / photoSpec.Std[c]
			}
		}
		i++
	}
}

func BenchmarkReadHeader(b *testing.B) {
	data := photos(b)[0]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readHeader(data); err != nil {
			b.Fatal(err)
		}
	}
}
