package fashion

import (
	"context"
	"fmt"
	"image"
	"image/color"
	_ "image/jpeg" // the photos' format
	"math"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// TwinDistance is the largest distance of two photos that the split rule takes
// for near-twins. The distance is the root mean square difference of their
// thumbnails relative to the ink in them (255 minus the value): most photos
// are mostly white, so an absolute difference would take any two white things
// for twins. 0.2 was chosen by looking at pairs on both sides: below it, the
// same wallet, shirt or shoe in another shade, 93% of the same article type;
// above it, different things in the same pose.
const TwinDistance = 0.2

const (
	side   = 24 // of a thumbnail; 8 coarse cells of 3x3 pixels each way
	coarse = 8
)

// thumb is a photo averaged down to side x side RGB pixels, and to coarse x
// coarse cells of those.
type thumb struct {
	ink  float64 // root mean square of 255 minus the value
	fine [side * side * 3]float32
	cell [coarse * coarse * 3]float32
}

func readThumb(path string) (*thumb, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	im, _, err := image.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return newThumb(im), nil
}

// newThumb averages areas, so it is antialiased at any size of picture.
func newThumb(im image.Image) *thumb {
	t := new(thumb)
	b := im.Bounds()
	y, ycc := im.(*image.YCbCr)
	for row := range side {
		y0, y1 := span(b.Min.Y, b.Dy(), row)
		for col := range side {
			x0, x1 := span(b.Min.X, b.Dx(), col)
			var sum [3]int
			for py := y0; py < y1; py++ {
				for px := x0; px < x1; px++ {
					var r, g, b uint8
					if ycc {
						i, j := y.YOffset(px, py), y.COffset(px, py)
						r, g, b = color.YCbCrToRGB(y.Y[i], y.Cb[j], y.Cr[j])
					} else {
						c := color.NRGBAModel.Convert(im.At(px, py)).(color.NRGBA)
						r, g, b = c.R, c.G, c.B
					}
					sum[0] += int(r)
					sum[1] += int(g)
					sum[2] += int(b)
				}
			}
			n := float32((y1 - y0) * (x1 - x0))
			for c := range 3 {
				v := float32(sum[c]) / n
				t.fine[(row*side+col)*3+c] = v
				t.ink += float64(255-v) * float64(255-v)
				t.cell[(row*coarse/side*coarse+col*coarse/side)*3+c] += v / (side / coarse * side / coarse)
			}
		}
	}
	t.ink = math.Sqrt(t.ink / float64(len(t.fine)))
	return t
}

// span returns the pixels of the i-th of side equal parts of n pixels; at
// least one.
func span(min, n, i int) (from, to int) {
	from, to = i*n/side, (i+1)*n/side
	return min + from, min + max(to, from+1)
}

// relative returns the distance of two thumbnails, or a number above limit as
// soon as it is known to exceed limit. The difference of the coarse cells is a
// lower bound of the whole (the mean of squares is at least the square of the
// mean), and rejects nearly all pairs.
func relative(a, b *thumb, limit float64) float64 {
	scale := math.Sqrt(a.ink*b.ink) + 1 // a blank picture has no ink
	most := float32(limit * limit * scale * scale)
	d := meanSquare(a.cell[:], b.cell[:], most)
	if d <= most {
		d = meanSquare(a.fine[:], b.fine[:], most)
	}
	return math.Sqrt(float64(d)) / scale
}

// meanSquare stops once the mean squared difference is above limit.
func meanSquare(a, b []float32, limit float32) float32 {
	stop := limit * float32(len(a))
	var sum float32
	for i := 0; i < len(a); i += 24 {
		x, y := a[i:i+24], b[i:i+24]
		for j := range x {
			d := x[j] - y[j]
			sum += d * d
		}
		if sum > stop {
			return sum / float32(len(a))
		}
	}
	return sum / float32(len(a))
}

// Twin is a pair of products, by index, and the distance of their photos.
type Twin struct {
	A, B     int // A < B
	Distance float64
}

// Twins returns the near-twin photos among products in dir, by rising A, then
// B: the pairs at most limit apart ([TwinDistance] is the split rule's).
func Twins(ctx context.Context, dir string, products []Product, limit float64) ([]Twin, error) {
	var with []int
	for i, p := range products {
		if p.Photo {
			with = append(with, i)
		}
	}
	thumbs := make([]*thumb, len(with))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for k, i := range with {
		g.Go(func() (err error) {
			if gctx.Err() != nil {
				return gctx.Err()
			}
			thumbs[k], err = readThumb(Photo(dir, products[i].ID))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("read photos: %w", err)
	}
	found := make([][]Twin, len(with))
	g = new(errgroup.Group)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for k := range with {
		g.Go(func() error {
			for l := k + 1; l < len(with); l++ {
				if d := relative(thumbs[k], thumbs[l], limit); d <= limit {
					found[k] = append(found[k], Twin{with[k], with[l], d})
				}
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(found...), nil
}
