package preprocess

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/ngrams"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

// of is a preprocessor of a package that Load would accept.
func of(t testing.TB, spec model.Spec, o Options) *Preprocessor {
	t.Helper()
	pp, err := New(&model.Package{Dir: "../wordpiece/testdata", Spec: spec}, o)
	if err != nil {
		t.Fatal(err)
	}
	return pp
}

func bagSpec(ids string) model.Spec {
	return model.Spec{
		Reads:      []string{"title", "attributes.usage"},
		Preprocess: model.Preprocess{Kind: model.HashedNgrams, HashedNgrams: &ngrams.Config{Buckets: 64, Words: [2]int{1, 1}, MaxTokens: 8, AttributeWeight: 0.5}},
		Inputs:     []model.Tensor{{Name: "ids", Datatype: ids, Shape: []int64{-1, -1}}, {Name: "weights", Datatype: "FP32", Shape: []int64{-1, -1}}},
	}
}

func textSpec(shape ...int64) model.Spec {
	return model.Spec{
		Reads:      []string{"title", "brand", "attributes.usage"},
		Preprocess: model.Preprocess{Kind: model.TextString, Join: new(" | ")},
		Inputs:     []model.Tensor{{Name: "text", Datatype: "BYTES", Shape: shape}},
	}
}

// tokenSpec is of a package whose tokenizer is internal/wordpiece's.
func tokenSpec(t testing.TB, most int, inputs ...model.Tensor) model.Spec {
	t.Helper()
	const name = "tokenizer.json"
	data, err := os.ReadFile(filepath.Join("../wordpiece/testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return model.Spec{
		Reads: []string{"title", "brand"},
		Preprocess: model.Preprocess{Kind: model.WordPiece, Join: new(" "),
			Wordpiece: &model.Wordpiece{Tokenizer: model.File{File: name, SHA256: hex.EncodeToString(sum[:])}, MaxTokens: most}},
		Inputs: inputs,
	}
}

func imageSpec(datatype string, im model.Image) model.Spec {
	im = im.WithDefaults()
	im.Std = [3]float32{1, 1, 1}
	return model.Spec{
		Reads:      []string{"images"},
		Preprocess: model.Preprocess{Kind: model.Picture, Image: &im},
		Inputs:     []model.Tensor{{Name: "image", Datatype: datatype, Shape: []int64{-1, -1, -1, -1}}},
	}
}

func samples(t testing.TB, pp *Preprocessor, products ...product.Product) []Sample {
	t.Helper()
	var all []Sample
	for _, p := range products {
		s, err := pp.Product(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func TestBags(t *testing.T) {
	shirt, watch := product.Product{Title: "a red shirt"}, product.Product{Title: "watch", Attributes: map[string]string{"usage": "sport"}}
	narrow, wide := of(t, bagSpec("INT32"), Options{}), of(t, bagSpec("INT64"), Options{})
	in := narrow.Tensors(samples(t, narrow, shirt, watch), new(Buffers))
	if d := cmp.Diff([]int64{2, 3}, in[0].Shape); d != "" || len(in) != 2 || len(in[1].F32) != 6 {
		t.Fatalf("%+v", in)
	}
	if in[0].I32[5] != 0 || in[1].F32[5] != 0 || in[1].F32[3] != 0.5 {
		t.Errorf("the shorter row is %v, %v; want its attribute first, and padding of weight 0", in[0].I32[3:], in[1].F32[3:])
	}
	for i, id := range wide.Tensors(samples(t, wide, shirt, watch), new(Buffers))[0].I64 {
		if id != int64(in[0].I32[i]) {
			t.Errorf("id %d is %d as INT64, %d as INT32", i, id, in[0].I32[i])
		}
	}
	alone := narrow.Tensors(samples(t, narrow, watch), new(Buffers))
	if !slices.Equal(alone[0].I32, in[0].I32[3:5]) {
		t.Errorf("alone it is %v, in company %v", alone[0].I32, in[0].I32[3:])
	}
}

func TestTexts(t *testing.T) {
	for _, tt := range []struct {
		name  string
		shape []int64
		want  []int64
	}{
		{"a column", []int64{-1, 1}, []int64{3, 1}},
		{"a list", []int64{-1}, []int64{3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pp := of(t, textSpec(tt.shape...), Options{})
			batch := samples(t, pp, product.Product{Title: " a shirt ", Brand: "Puma", Attributes: map[string]string{"usage": "sport", "other": "x"}},
				product.Product{Title: "Ünïcode\n"}, product.Product{Title: "x", Brand: " "})
			in := pp.Tensors(batch, new(Buffers))
			want := []onnx.Tensor{{Shape: tt.want, Strings: []string{"a shirt | Puma | sport", "Ünïcode", "x"}}}
			if d := cmp.Diff(want, in); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	input := func(name, datatype string, length int64) model.Tensor {
		return model.Tensor{Name: name, Datatype: datatype, Shape: []int64{-1, length}}
	}
	long, short := product.Product{Title: "red cotton shirt", Brand: "for men"}, product.Product{Title: "watch"}
	pp := of(t, tokenSpec(t, 16, input("attention_mask", "INT32", -1), input("input_ids", "INT64", -1), input("token_type_ids", "INT64", -1)), Options{})
	batch := samples(t, pp, long, short)
	n := len(batch[1].(ids))
	in := pp.Tensors(batch, new(Buffers))
	cols := len(batch[0].(ids))
	for i := range in {
		if d := cmp.Diff([]int64{2, int64(cols)}, in[i].Shape); d != "" {
			t.Fatal(d)
		}
	}
	mask, row := in[0].I32[cols:], in[1].I64[cols:]
	for k := range cols {
		if (mask[k] == 1) != (k < n) || k < n && row[k] != batch[1].(ids)[k] || k >= n && row[k] != 0 {
			t.Errorf("token %d of the shorter one is %d with the mask %d", k, row[k], mask[k])
		}
	}
	if slices.Max(in[2].I64) != 0 || in[0].I32[cols-1] != 1 {
		t.Errorf("types %v, mask %v", in[2].I64, in[0].I32)
	}

	fixed := of(t, tokenSpec(t, 24, input("input_ids", "INT64", 24)), Options{})
	in = fixed.Tensors(samples(t, fixed, short), new(Buffers))
	if len(in) != 1 || in[0].Shape[1] != 24 || len(in[0].I64) != 24 {
		t.Errorf("a graph of the length 24 is given %v", in)
	}
	cut := of(t, tokenSpec(t, 4, input("input_ids", "INT64", -1)), Options{})
	if s := samples(t, cut, long)[0].(ids); len(s) != 4 {
		t.Errorf("%d tokens of at most 4", len(s))
	}
}

// Texts of much the same length share a batch; a long one does not make short
// ones as dear as itself.
func TestTokenGroups(t *testing.T) {
	pp := of(t, tokenSpec(t, 512, model.Tensor{Name: "input_ids", Datatype: "INT64", Shape: []int64{-1, -1}}), Options{})
	group := map[int]string{}
	for _, n := range []int{2, 16, 17, 32, 33, 512} {
		group[n] = pp.Group(make(ids, n))
	}
	if group[2] != group[16] || group[17] != group[32] || group[16] == group[17] || group[32] == group[33] || group[33] == group[512] {
		t.Errorf("groups %v", group)
	}
}

func TestTokenizerThatDoesNotFit(t *testing.T) {
	input := model.Tensor{Name: "input_ids", Datatype: "INT64", Shape: []int64{-1, -1}}
	for name, tt := range map[string]struct {
		change func(*model.Wordpiece)
		want   string
	}{
		"absent":    {func(w *model.Wordpiece) { w.Tokenizer.File = "absent.json" }, "absent.json"},
		"another":   {func(w *model.Wordpiece) { w.Tokenizer.SHA256 = strings.Repeat("0", 64) }, "sha256"},
		"too short": {func(w *model.Wordpiece) { w.MaxTokens = 1 }, "maxTokens is 1"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := tokenSpec(t, 16, input)
			tt.change(spec.Preprocess.Wordpiece)
			_, err := New(&model.Package{Dir: "../wordpiece/testdata", Spec: spec}, Options{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func blue(t testing.TB) []byte {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, 9, 6))
	for i := range 54 {
		m.Set(i%9, i/9, color.NRGBA{B: 255, A: 255})
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestImages(t *testing.T) {
	for _, tt := range []struct {
		name     string
		datatype string
		im       model.Image
		shape    []int64
		first    float32 // of the first pixel's channels, in the tensor's order
		last     float32
	}{
		{"RGB", "FP32", model.Image{Width: 3, Height: 2}, []int64{2, 3, 2, 3}, 0, 1},
		{"BGR", "FP32", model.Image{Width: 3, Height: 2, Channels: model.BGR}, []int64{2, 3, 2, 3}, 1, 0},
		{"rows of pixels", "FP32", model.Image{Width: 3, Height: 2, Layout: model.NHWC}, []int64{2, 2, 3, 3}, 0, 1},
		{"grey", "FP32", model.Image{Width: 3, Height: 2, Channels: model.Grey}, []int64{2, 1, 2, 3}, 0.114, 0.114},
		{"levels", "FP32", model.Image{Width: 3, Height: 2, Scale: new(float32(1))}, []int64{2, 3, 2, 3}, 0, 255},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pp := of(t, imageSpec(tt.datatype, tt.im), Options{})
			one := product.Product{Images: []product.Image{{Data: blue(t)}}}
			in := pp.Tensors(samples(t, pp, one, one), new(Buffers))[0]
			if d := cmp.Diff(tt.shape, in.Shape); d != "" {
				t.Fatal(d)
			}
			if f, l := in.F32[0], in.F32[len(in.F32)-1]; abs(f-tt.first) > 0.01 || abs(l-tt.last) > 0.01 {
				t.Errorf("the first number is %v, the last %v; want %v and %v", f, l, tt.first, tt.last)
			}
		})
	}
	for datatype, want := range map[string][]byte{"UINT8": {255}, "FP16": {0, 0x3c}} {
		pp := of(t, imageSpec(datatype, model.Image{Width: 3, Height: 2}), Options{})
		one := product.Product{Images: []product.Image{{Data: blue(t)}}}
		for n := 1; n <= 2; n++ {
			in := pp.Tensors(samples(t, pp, []product.Product{one, one}[:n]...), new(Buffers))[0]
			if in.Type() != datatype || in.Shape[0] != int64(n) || len(in.Raw) != n*18*onnx.Size(datatype) || !bytes.HasSuffix(in.Raw, want) {
				t.Errorf("%d of %s: %+v", n, datatype, in)
			}
		}
	}
}

func abs(x float32) float32 { return max(x, -x) }

func TestWhichPicture(t *testing.T) {
	good, broken := product.Image{Data: blue(t)}, product.Image{Data: blue(t)[:20]}
	url := func(s string) product.Image { return product.Image{URL: s} }
	gone := problem.New(http.StatusUnprocessableEntity, "not there")
	later := problem.New(http.StatusServiceUnavailable, "try again")
	for name, tt := range map[string]struct {
		images []product.Image
		asked  string
		off    bool
		status int // 0: read
		want   string
	}{
		"inline":                       {images: []product.Image{good}},
		"inline before a URL":          {images: []product.Image{url("good"), good}},
		"the first of two URLs":        {images: []product.Image{url("good"), url("other")}, asked: "good"},
		"broken, then a URL":           {images: []product.Image{broken, url("good")}, asked: "good"},
		"two broken, then a good one":  {images: []product.Image{broken, broken, good}},
		"gone, then there":             {images: []product.Image{url("gone"), url("good")}, asked: "gone good"},
		"not now, then there":          {images: []product.Image{url("later"), url("good")}, asked: "later good"},
		"gone, then not now":           {images: []product.Image{url("gone"), url("later"), url("gone")}, asked: "gone later gone", status: 503, want: "try again"},
		"gone":                         {images: []product.Image{url("gone")}, asked: "gone", status: 422, want: "not there"},
		"broken, and gone":             {images: []product.Image{url("gone"), broken}, asked: "gone", status: 422, want: "picture"},
		"no picture at its URL":        {images: []product.Image{url("text")}, asked: "text", status: 415, want: "send JPEG"},
		"nothing is fetched":           {images: []product.Image{url("good")}, off: true, status: 422, want: "FETCH=off"},
		"nothing need be":              {images: []product.Image{url("good"), good}, off: true},
		"a data URL":                   {images: []product.Image{url("data:image/png;base64," + base64.StdEncoding.EncodeToString(blue(t)))}, off: true},
		"one that lies about its type": {images: []product.Image{url("data:text/html;base64," + base64.StdEncoding.EncodeToString(blue(t)))}},
		"one that is no picture":       {images: []product.Image{url("data:image/png,hello")}, status: 415, want: "send JPEG"},
		"one that is broken":           {images: []product.Image{url("data:image/png;base64,!")}, status: 422, want: "not base64"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			o := Options{Fetch: func(_ context.Context, url string) ([]byte, error) {
				asked = append(asked, url)
				switch url {
				case "gone":
					return nil, gone
				case "later":
					return nil, later
				case "text":
					return []byte("hello"), nil
				}
				return blue(t), nil
			}}
			if tt.off {
				o.Fetch = nil
			}
			s, err := of(t, imageSpec("FP32", model.Image{Width: 3, Height: 2}), o).Product(t.Context(), product.Product{Images: tt.images})
			if got := strings.Join(asked, " "); got != tt.asked {
				t.Errorf("fetched %q; want %q", got, tt.asked)
			}
			if tt.status == 0 {
				if err != nil {
					t.Fatal(err)
				}
				s.Release()
				return
			}
			if problem.Status(err) != tt.status || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want a %d that says %q", err, tt.status, tt.want)
			}
		})
	}
}

// What a package does not read is skipped by composers, whatever its kind.
func TestNothingToRead(t *testing.T) {
	picture := product.Product{Images: []product.Image{{Data: blue(t)}}}
	title := product.Product{Title: "a shirt"}
	tokens := tokenSpec(t, 16, model.Tensor{Name: "input_ids", Datatype: "INT32", Shape: []int64{-1, -1}})
	for name, tt := range map[string]struct {
		spec model.Spec
		p    product.Product
	}{
		"hashed n-grams": {bagSpec("INT32"), picture}, "text": {textSpec(-1), picture}, "tokens": {tokens, picture}, "image": {imageSpec("FP32", model.Image{Width: 2, Height: 2}), title},
	} {
		pp := of(t, tt.spec, Options{})
		_, err := pp.Product(t.Context(), tt.p)
		if e, ok := errors.AsType[*problem.Error](err); !ok || e.Type != problem.TypeNothingToRead || e.Status != 422 {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := pp.Raw(blue(t)); (err == nil) != (name == "image") {
			t.Errorf("%s: a picture alone: %v", name, err)
		}
		b := pp.Blank()
		if in := pp.Tensors([]Sample{b, b}, new(Buffers)); len(in) != len(tt.spec.Inputs) || in[0].Shape[0] != 2 {
			t.Errorf("%s: blank ones are %v", name, in)
		}
		b.Release()
	}
}

// FuzzTexts: whatever a text is, its tensors are whole, and the same beside
// another text as alone.
func FuzzTexts(f *testing.F) {
	for _, s := range []string{"a shirt", "", "\xff\xfe", strings.Repeat("watch ", 300), "Ünï\u0301code \u4e2d"} {
		f.Add(s)
	}
	all := []*Preprocessor{of(f, bagSpec("INT64"), Options{}), of(f, textSpec(-1, 1), Options{}),
		of(f, tokenSpec(f, 16, model.Tensor{Name: "input_ids", Datatype: "INT64", Shape: []int64{-1, -1}}), Options{})}
	f.Fuzz(func(t *testing.T, title string) {
		for _, pp := range all {
			s, err := pp.Product(t.Context(), product.Product{Title: title})
			if err != nil {
				if strings.TrimSpace(title) != "" {
					t.Fatalf("%q is refused: %v", title, err)
				}
				continue
			}
			alone := pp.Tensors([]Sample{s}, new(Buffers))
			beside := pp.Tensors([]Sample{s, pp.Blank()}, new(Buffers))
			for i, in := range alone {
				if in.Shape[0] != 1 || len(in.F32)+len(in.I64)+len(in.Strings) != int(in.Shape[1]) {
					t.Fatalf("%q: %v", title, in)
				}
				for k := range in.I64 {
					if in.I64[k] != beside[i].I64[k] {
						t.Fatalf("%q: alone %v, beside another %v", title, in, beside[i])
					}
				}
			}
		}
	})
}
