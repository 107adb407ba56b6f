package imaging

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/problem"
)

// levels is the preprocessing that leaves levels of [0, 255].
func levels(w, h int) model.Image {
	return model.Image{Width: w, Height: h, Std: [3]float32{1. / 255, 1. / 255, 1. / 255}}
}

func mustTensor(t testing.TB, data []byte, spec model.Image) []float32 {
	t.Helper()
	dst := make([]float32, 3*spec.Width*spec.Height)
	if err := Tensor(dst, data, spec); err != nil {
		t.Fatal(err)
	}
	return dst
}

// ways are those from a picture to a tensor: what this build takes first, and
// Go alone.
var ways = map[string]func([]float32, []byte, model.Image) error{"this build": Tensor, "Go": inGo}

func inGo(dst []float32, data []byte, spec model.Image) error {
	h, err := readHeader(data)
	if err != nil {
		return err
	}
	return decodeTo(dst, data, h, newLayout(h, spec))
}

// byTurbo reports whether libjpeg-turbo reads the picture.
func byTurbo(t testing.TB, data []byte) bool {
	t.Helper()
	h, err := readHeader(data)
	if err != nil {
		t.Fatal(err)
	}
	return turbo(make([]float32, 3), data, h, newLayout(h, levels(1, 1)))
}

// Every format, squashed and cropped, against what Pillow makes of the same
// file (testdata/draw.py).
func TestAgainstPillow(t *testing.T) {
	squashed, _ := filepath.Glob("testdata/*.bin")
	cropped, _ := filepath.Glob("testdata/*.crop")
	if len(squashed) < 20 || len(cropped) < 9 {
		t.Fatalf("%d and %d goldens", len(squashed), len(cropped))
	}
	for _, golden := range slices.Concat(squashed, cropped) {
		spec := levels(48, 40)
		name, crop := strings.CutSuffix(golden, ".crop")
		if crop {
			spec.Resize, spec.CropRatio = model.Crop, 0.875
		}
		name = strings.TrimSuffix(name, ".bin")
		for way, tensor := range ways {
			t.Run(filepath.Base(golden)+" by "+way, func(t *testing.T) {
				want, data := mustRead(t, golden), mustRead(t, name)
				got := make([]float32, len(want))
				if err := tensor(got, data, spec); err != nil {
					t.Fatal(err)
				}
				mean, p98, worst := differences(got, want)
				t.Logf("differences in levels: mean %.2f, 98%% below %.0f, worst %.0f", mean, p98, worst)
				maxMean, maxP98, maxWorst := 0.3, 1.0, 1.0 // the rounding of Pillow's two passes
				ext := filepath.Ext(name)
				if ext == ".webp" || ext == ".jpg" && (way == "Go" || !byTurbo(t, data)) {
					// At the edge of a saturated colour, chroma and luma that are
					// shrunk apart are clamped later than Pillow clamps them.
					maxMean, maxP98, maxWorst = 0.5, 5, 25
				}
				if mean > maxMean || p98 > maxP98 || worst > maxWorst {
					t.Errorf("differences in levels: mean %.2f (at most %.1f), 98%% below %.0f (%.0f), worst %.0f (%.0f)", mean, maxMean, p98, maxP98, worst, maxWorst)
				}
			})
		}
	}
}

// differences between levels, rounded, and bytes.
func differences(got []float32, want []byte) (mean, p98, worst float64) {
	diffs := make([]float64, len(got))
	for i, v := range got {
		diffs[i] = math.Abs(math.Round(float64(v)) - float64(want[i]))
		mean += diffs[i] / float64(len(got))
	}
	slices.Sort(diffs)
	return mean, diffs[len(diffs)*98/100], diffs[len(diffs)-1]
}

func encodePNG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func encodeJPEG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func plain(w, h int, c color.Color) image.Image {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.Set(x, y, c)
		}
	}
	return m
}

func TestNormalisation(t *testing.T) {
	spec := model.Image{Width: 4, Height: 3, Mean: [3]float32{0.5, 0.25, 0}, Std: [3]float32{0.5, 0.25, 2}}
	got := mustTensor(t, encodePNG(t, plain(9, 7, color.NRGBA{R: 255, G: 0, B: 51, A: 255})), spec)
	for i, v := range got {
		want := []float64{1, -1, 0.1}[i/12]
		if math.Abs(float64(v)-want) > 1e-5 {
			t.Fatalf("channel %d is %v, want %v", i/12, v, want)
		}
	}
}

func TestTransparencyIsWhite(t *testing.T) {
	palette := color.Palette{color.NRGBA{}, color.NRGBA{R: 200, A: 255}}
	small := image.NewPaletted(image.Rect(2, 1, 6, 5), palette) // a frame inside a canvas of 8x6
	for i := range small.Pix {
		small.Pix[i] = 1
	}
	var frame bytes.Buffer
	if err := gif.EncodeAll(&frame, &gif.GIF{Image: []*image.Paletted{small}, Delay: []int{0}, Config: image.Config{ColorModel: palette, Width: 8, Height: 6}}); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		data []byte
		at   int // pixel of the 8x6 picture
		want [3]float32
	}{
		{"transparent", encodePNG(t, plain(8, 6, color.NRGBA{R: 9, G: 9, B: 9})), 0, [3]float32{255, 255, 255}},
		{"half", encodePNG(t, plain(8, 6, color.NRGBA{R: 0, G: 100, B: 255, A: 51})), 0, [3]float32{204, 224, 255}},
		{"palette", encodePNG(t, image.NewPaletted(image.Rect(0, 0, 8, 6), palette)), 0, [3]float32{255, 255, 255}},
		{"inside a GIF's frame", frame.Bytes(), 1*8 + 2, [3]float32{200, 0, 0}},
		{"outside a GIF's frame", frame.Bytes(), 1*8 + 1, [3]float32{255, 255, 255}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := mustTensor(t, tt.data, levels(8, 6))
			for c, want := range tt.want {
				if v := got[c*48+tt.at]; math.Abs(float64(v-want)) > 0.51 {
					t.Errorf("channel %d is %v, want %v", c, v, want)
				}
			}
		})
	}
}

// An animation's first picture is read, and none of the others.
func TestAnimatedGIF(t *testing.T) {
	var data bytes.Buffer
	frames := &gif.GIF{}
	for _, c := range []color.Color{color.NRGBA{R: 200, A: 255}, color.NRGBA{G: 200, A: 255}, color.NRGBA{B: 200, A: 255}} {
		frames.Image = append(frames.Image, image.NewPaletted(image.Rect(0, 0, 8, 6), color.Palette{c}))
		frames.Delay = append(frames.Delay, 1)
	}
	if err := gif.EncodeAll(&data, frames); err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{data.Bytes(), data.Bytes()[:data.Len()*3/4]} {
		if got := mustTensor(t, data, levels(1, 1)); math.Abs(float64(got[0]-200)) > 0.51 || got[1] > 0.51 || got[2] > 0.51 {
			t.Errorf("levels %v, want those of the first frame", got)
		}
	}
}

func TestSixteenBits(t *testing.T) {
	m := image.NewNRGBA64(image.Rect(0, 0, 5, 4))
	for y := range 4 {
		for x := range 5 {
			m.SetNRGBA64(x, y, color.NRGBA64{R: 0xffff, G: 0x8000, B: 0, A: 0x8080})
		}
	}
	got := mustTensor(t, encodePNG(t, m), levels(1, 1))
	for c, want := range []float32{255, 191, 127} { // half of it is white
		if math.Abs(float64(got[c]-want)) > 1 {
			t.Errorf("channel %d is %v, want %v", c, got[c], want)
		}
	}
}

// withEXIF puts an orientation into a JPEG, in either byte order.
func withEXIF(jpg []byte, o uint16, order binary.AppendByteOrder) []byte {
	tiff := []byte("II*\x00")
	if order == binary.AppendByteOrder(binary.BigEndian) {
		tiff = []byte("MM\x00*")
	}
	tiff = order.AppendUint32(tiff, 8)
	tiff = order.AppendUint16(tiff, 1)
	tiff = order.AppendUint16(tiff, 0x0112)
	tiff = order.AppendUint16(tiff, 3)
	tiff = order.AppendUint32(tiff, 1)
	tiff = order.AppendUint16(tiff, o)
	tiff = append(tiff, 0, 0, 0, 0, 0, 0)
	body := append([]byte("Exif\x00\x00"), tiff...)
	out := append([]byte{}, jpg[:2]...)
	out = append(out, 0xff, 0xe1)
	out = binary.BigEndian.AppendUint16(out, uint16(len(body)+2))
	out = append(out, body...)
	return append(out, jpg[2:]...)
}

// A picture with a red top left quarter: orientation says where it goes.
func TestOrientation(t *testing.T) {
	m := image.NewNRGBA(image.Rect(0, 0, 64, 32))
	for y := range 32 {
		for x := range 64 {
			m.Set(x, y, color.NRGBA{B: 255, A: 255})
			if x < 32 && y < 16 {
				m.Set(x, y, color.NRGBA{R: 255, A: 255})
			}
		}
	}
	jpg := encodeJPEG(t, m)
	corners := map[uint16]string{1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left", 5: "top left", 6: "top right", 7: "bottom right", 8: "bottom left", 9: "top left", 0: "top left"}
	for o, want := range corners {
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			got := mustTensor(t, withEXIF(jpg, o, order), levels(20, 10))
			for corner, at := range map[string]int{"top left": 2*20 + 2, "top right": 2*20 + 17, "bottom left": 7*20 + 2, "bottom right": 7*20 + 17} {
				if red := got[at] > 128; red != (corner == want) {
					t.Errorf("orientation %d (%v): %s is red: %v, want red at %s", o, order, corner, red, want)
				}
			}
		}
	}
}

func TestBrokenEXIFIsIgnored(t *testing.T) {
	jpg := encodeJPEG(t, plain(20, 20, color.Black))
	whole := withEXIF(jpg, 6, binary.LittleEndian)
	for cut := range 34 {
		data := bytes.Clone(whole)
		if cut < 8 {
			data[12+cut] = 0xff // byte order, magic, offset of the directory
		} else {
			binary.BigEndian.PutUint16(data[4:], uint16(cut)) // a segment that ends early
		}
		if o := exifOrientation(data); o < 1 || o > 8 {
			t.Errorf("cut %d: orientation %d", cut, o)
		}
	}
	if o := exifOrientation([]byte{0xff, 0xd8, 0xff}); o != 1 {
		t.Errorf("orientation %d of nothing", o)
	}
}

// pngOf is a PNG whose header says w x h, and nothing else.
func pngOf(w, h uint32) []byte {
	ihdr := append([]byte("IHDR"), 0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0)
	binary.BigEndian.PutUint32(ihdr[4:], w)
	binary.BigEndian.PutUint32(ihdr[8:], h)
	b := append([]byte("\x89PNG\r\n\x1a\n"), 0, 0, 0, 13)
	b = append(b, ihdr...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(ihdr))
}

// jpegOf is a real JPEG whose frame header claims w x h.
func jpegOf(t testing.TB, w, h uint16) []byte {
	t.Helper()
	data := encodeJPEG(t, plain(16, 16, color.White))
	at := bytes.Index(data, []byte{0xff, 0xc0})
	binary.BigEndian.PutUint16(data[at+5:], h)
	binary.BigEndian.PutUint16(data[at+7:], w)
	return data
}

// progressiveCMYK is a header that claims so.
func progressiveCMYK(t testing.TB, w, h uint16) []byte {
	t.Helper()
	data := bytes.Clone(mustRead(t, "testdata/cmyk.jpg"))
	at := bytes.Index(data, []byte{0xff, 0xc0})
	data[at+1] = 0xc2
	binary.BigEndian.PutUint16(data[at+5:], h)
	binary.BigEndian.PutUint16(data[at+7:], w)
	return data
}

// scannedAgain is a grey baseline JPEG whose one scan is there n times. Each
// is decoded.
func scannedAgain(t *testing.T, w, h, n int) []byte {
	t.Helper()
	grey := encodeJPEG(t, image.NewGray(image.Rect(0, 0, w, h)))
	at, end := bytes.Index(grey, []byte{0xff, 0xda}), len(grey)-2
	return slices.Concat(grey[:at], bytes.Repeat(grey[at:end], n), grey[end:])
}

func TestRefusals(t *testing.T) {
	photo := encodeJPEG(t, plain(300, 200, color.RGBA{R: 1, G: 2, B: 3, A: 255}))
	picture := encodePNG(t, plain(30, 20, color.White))
	scans := bytes.Clone(mustRead(t, "testdata/progressive.jpg"))
	scans = append(scans, bytes.Repeat([]byte{0xff, 0xda, 0, 2}, maxScans)...)
	tests := []struct {
		name   string
		data   []byte
		status int
		want   string
	}{
		{"empty", nil, 422, "the picture is empty"},
		{"one byte", []byte{0xff}, 415, "not a picture"},
		{"text", []byte("hello, this is no picture at all"), 415, "send JPEG, PNG, GIF, WebP or BMP"},
		{"HTML", []byte("<!doctype html><p>404"), 415, "not a picture"},
		{"SVG", []byte(`<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>`), 415, "SVG pictures are not read"},
		{"AVIF", []byte("\x00\x00\x00\x20ftypavif\x00\x00\x00\x00avifmif1"), 415, "AVIF pictures are not read"},
		{"HEIC", []byte("\x00\x00\x00\x20ftypheic\x00\x00\x00\x00mif1heic"), 415, "HEIC pictures are not read"},
		{"video", []byte("\x00\x00\x00\x20ftypisom\x00\x00\x00\x00isomavc1"), 415, "MP4 pictures"},
		{"TIFF", []byte("II*\x00\x08\x00\x00\x00"), 415, "TIFF pictures are not read"},
		{"PDF", []byte("%PDF-1.7"), 415, "PDF"},
		{"ICO", []byte("\x00\x00\x01\x00\x01\x00"), 415, "ICO"},
		{"JPEG XL", []byte("\xff\x0a\x00"), 415, "JPEG XL"},
		{"text that begins with BM", []byte("BMW 320i, leather seats, silver"), 415, "not a picture"},
		{"truncated JPEG", photo[:len(photo)/2], 422, "the JPEG picture is truncated"},
		{"JPEG, header only", photo[:3], 422, "truncated"},
		{"truncated PNG", picture[:len(picture)/2], 422, "the PNG picture"},
		{"PNG with a bad checksum", append(bytes.Clone(picture[:len(picture)-20]), make([]byte, 20)...), 422, "the PNG picture"},
		{"GIF, header only", []byte("GIF89a"), 422, "the GIF picture is truncated"},
		{"WebP without content", []byte("RIFF\x04\x00\x00\x00WEBP"), 422, "the WebP picture"},
		{"animated WebP", []byte("RIFF\x1e\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02\x00\x00\x00\x07\x00\x00\x07\x00\x00ANIM\x06\x00\x00\x00"), 422, "animated WebP pictures are not read; send one of its frames"},
		{"BMP, broken", append([]byte("BM"), make([]byte, 60)...), 422, "the BMP picture"},
		{"30,000 x 30,000 PNG", pngOf(30000, 30000), 422, "30000x30000 pixels; at most 16384 a side and 25 million in all"},
		{"30,000 x 30,000 JPEG", jpegOf(t, 30000, 30000), 422, "30000x30000 pixels"},
		{"65,535 x 1 JPEG", jpegOf(t, 65535, 1), 422, "65535x1 pixels"},
		{"2^31 PNG", pngOf(1<<31-1, 1<<31-1), 422, "picture"},
		{"26 megapixels", pngOf(5100, 5100), 422, "5100x5100"},
		{"progressive CMYK of 20 megapixels", progressiveCMYK(t, 5000, 4000), 422, "would take 534 MB of memory"},
		{"no pixels", pngOf(0, 10), 422, "the PNG picture"},
		{"header larger than the data", pngOf(4000, 4000), 422, "the PNG picture is truncated"},
		{"arithmetic coding", bytes.Replace(photo, []byte{0xff, 0xc0}, []byte{0xff, 0xc9}, 1), 422, "the JPEG picture cannot be decoded"},
		{"too many scans", scans, 422, "scans of"},
		{"baseline, scanned again and again", scannedAgain(t, 2000, 2000, 80), 422, "80 scans of 2000x2000 pixels; at most 100 scans and 300 million pixels in all"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Tensor(make([]float32, 3*8*8), tt.data, levels(8, 8))
			if err == nil {
				t.Fatal("accepted")
			}
			if s := problem.Status(err); s != tt.status || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%d %q, want %d with %q", s, err, tt.status, tt.want)
			}
		})
	}
	if err := Tensor(make([]float32, 7), photo, levels(8, 8)); err == nil || problem.Status(err) != http.StatusInternalServerError {
		t.Errorf("a tensor of the wrong size: %v", err)
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestReadHeader(t *testing.T) {
	for name, want := range map[string]string{"base420.jpg": "jpeg", "rgba.png": "png", "palette.gif": "gif", "alpha.webp": "webp", "rgb.bmp": "bmp"} {
		h, err := readHeader(mustRead(t, "testdata/"+name))
		if err != nil || h.format != want || h.width != 150 || h.height != 131 {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
	huge := jpegOf(t, 30000, 30000)
	n := testing.AllocsPerRun(10, func() { _, _ = readHeader(huge) })
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if h, err := readHeader(huge); err == nil || h.width != 30000 {
		t.Errorf("width %d, %v", h.width, err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 256<<10 || n > 100 {
		t.Errorf("looking at a header allocated %d bytes in %v pieces", used, n)
	}
}

// Pictures at the same time share the budget; they give it back.
func TestConcurrentUse(t *testing.T) {
	want := mustTensor(t, mustRead(t, "testdata/base420.jpg"), levels(48, 40))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			data, err := os.ReadFile("testdata/base420.jpg")
			if err != nil {
				t.Error(err)
				return
			}
			dst := make([]float32, 3*48*40)
			for range 20 {
				if err := Tensor(dst, data, levels(48, 40)); err != nil {
					t.Error(err)
					return
				}
				for i := range dst {
					if dst[i] != want[i] {
						t.Errorf("differs at %d", i)
						return
					}
				}
				_ = Tensor(dst, data[:500], levels(48, 40))
			}
		})
	}
	wg.Wait()
	if !decoding.TryAcquire(budget) {
		t.Fatal("the budget was not given back")
	}
	decoding.Release(budget)
}

// A large picture's memory is given back before the next one gets its turn.
func TestLargePicturesLeaveNoGarbage(t *testing.T) {
	data := encodePNG(t, image.NewGray(image.Rect(0, 0, 4000, 3000)))
	dst := make([]float32, 3*8*8)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 2 {
		if err := Tensor(dst, data, levels(8, 8)); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 4<<20 {
		t.Errorf("%d MB are still allocated", kept>>20)
	}
}
