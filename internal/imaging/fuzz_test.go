package imaging

import (
	"encoding/binary"
	"path/filepath"
	"slices"
	"testing"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/problem"
)

// Whatever the bytes and the options, both ways end, in levels or in a refusal
// in words; and what Go reads, every build reads.
func FuzzTensor(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.*")
	for i, n := range names {
		if ext := filepath.Ext(n); !slices.Contains([]string{".bin", ".crop", ".py"}, ext) {
			f.Add(mustRead(f, n), byte(i))
		}
	}
	f.Add(pngOf(30000, 30000), byte(0))
	f.Add(withEXIF(jpegOf(f, 16, 16), 6, binary.BigEndian), byte(1))
	f.Fuzz(func(t *testing.T, data []byte, options byte) {
		h, err := readHeader(data)
		if err == nil && (h.width < 1 || h.height < 1 || h.width > maxSide || h.height > maxSide || h.width*h.height > maxPixels) {
			t.Fatalf("%+v passed", h)
		}
		if h.width*h.height > 1<<20 {
			return // slow, and no other code
		}
		spec := levels(7, 5)
		if options&1 != 0 {
			spec.Resize, spec.CropRatio = model.Crop, 0.8
		}
		if options&2 != 0 {
			spec.Layout = model.NHWC
		}
		spec.Channels = []string{model.RGB, model.BGR, model.Grey, ""}[options>>2&3]
		read := map[string]bool{}
		for way, tensor := range ways {
			dst := make([]float32, spec.Depth()*spec.Width*spec.Height)
			for i := range dst {
				dst[i] = -1
			}
			err := tensor(dst, data, spec)
			read[way] = err == nil
			if err != nil {
				if s := problem.Status(err); s != 415 && s != 422 {
					t.Fatalf("by %s: status %d: %v", way, s, err)
				}
				continue
			}
			for i, v := range dst {
				if !(v >= -0.01 && v <= 255.01) {
					t.Fatalf("by %s: level %v at %d", way, v, i)
				}
			}
		}
		if read["Go"] && !read["this build"] {
			t.Fatal("Go alone reads it")
		}
	})
}
