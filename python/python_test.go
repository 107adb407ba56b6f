package python

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"aisle.dev/aisle/internal/imaging"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/ngrams"
	"aisle.dev/aisle/python/pythontest"
)

var env = pythontest.Env{Root: "..", Requirements: "python"}

var update = flag.Bool("update", false, "write what Python's tests read of Go: testdata/go.json and pictures.json")

func TestTypes(t *testing.T) {
	env.Run(t, "-m", "mypy", "--config-file=python/pyproject.toml", "--cache-dir="+t.TempDir(), "python/aisle_model", "python/tests")
}

func TestPython(t *testing.T) {
	t.Log(env.Run(t, "-m", "pytest", "-c", "python/pyproject.toml", "python/tests"))
}

// bag is one case of the goldens of n-grams.
type bag struct {
	Config  ngrams.Config  `json:"config"`
	Fields  []ngrams.Field `json:"fields"`
	IDs     []int32        `json:"ids"`
	Weights []float32      `json:"weights"`
}

// What Python made of texts (tests/test_ngrams.py), Go makes of them.
func TestNgramsOfPython(t *testing.T) {
	cases := read[[]bag](t, "testdata/python.json")
	if len(cases) < 100 {
		t.Fatalf("%d cases", len(cases))
	}
	for _, want := range cases {
		got := want
		got.IDs, got.Weights = got.Config.Features(got.Fields)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-Python +Go):\n%s", want.Fields, diff)
		}
	}
}

// What Go makes of texts, Python's tests read from testdata/go.json.
func TestNgramsForPython(t *testing.T) {
	configs := []ngrams.Config{
		{Buckets: 16384, Words: [2]int{1, 2}, Chars: [2]int{3, 5}, MaxTokens: 512, AttributeWeight: 0.3},
		{Buckets: 1 << 20, Words: [2]int{1, 3}, MaxTokens: 16},
		{Buckets: 97, Chars: [2]int{1, 2}, MaxTokens: 8, AttributeWeight: 0.5},
		{Buckets: 1, Words: [2]int{2, 2}, Chars: [2]int{2, 8}, MaxTokens: 4},
	}
	texts := []string{"", "?!", "x", "tie tie tie", "Blue T-Shirt", "CAFÉ ｃａｆｅ ﬁne №5", "ΣΊΣΥΦΟΣ İstanbul straße", "Юбка з ситцу", "한국어 日本語 हिन्दी",
		"a\u0301\u0323 e\u0301", "٣ kg ½ ² Ⅷ", "👟 shoe\u200dlace_under-score", "\u00a0tab\tnew\nline\x01", strings.Repeat("abc defg ", 40)}
	var cases []bag
	for _, c := range configs {
		for _, text := range texts {
			b := bag{Config: c, Fields: []ngrams.Field{{Name: "title", Text: text}, {Name: "attributes.gender", Text: "Wo-Men"}, {Name: "brand", Text: text}}}
			b.IDs, b.Weights = c.Features(b.Fields)
			cases = append(cases, b)
		}
	}
	golden(t, "testdata/go.json", cases)
}

// picture is one case of the goldens of pictures.
type picture struct {
	File   string      `json:"file"` // below the project's root
	Config model.Image `json:"config"`
	Tensor []float32   `json:"tensor"`
}

// What Go makes of pictures, Python's tests read from testdata/pictures.json.
// (What Pillow makes of them, internal/imaging's test reads.)
func TestPicturesForPython(t *testing.T) {
	mean, std := [3]float32{0.485, 0.456, 0.406}, [3]float32{0.229, 0.224, 0.225}
	cases := []picture{
		{File: "samples/drawings/shirt.jpg", Config: model.Image{Width: 16, Height: 12, Mean: mean, Std: std}},
		{File: "samples/drawings/belt.jpg", Config: model.Image{Width: 10, Height: 14, Mean: mean, Std: std, Resize: model.Crop, CropRatio: 0.875}},
		{File: "internal/imaging/testdata/turned6.jpg", Config: model.Image{Width: 12, Height: 12, Std: [3]float32{1, 1, 1}, Resize: model.Crop}},
		{File: "internal/imaging/testdata/rgba.png", Config: model.Image{Width: 9, Height: 7, Mean: mean, Std: std, Channels: model.BGR}},
		{File: "internal/imaging/testdata/palette.gif", Config: model.Image{Width: 8, Height: 8, Mean: mean, Std: std, Layout: model.NHWC}},
		{File: "internal/imaging/testdata/lossless.webp", Config: model.Image{Width: 11, Height: 5, Mean: mean, Std: std, Channels: model.Grey}},
	}
	for i, c := range cases {
		data, err := os.ReadFile(filepath.Join("..", c.File))
		if err != nil {
			t.Fatal(err)
		}
		cases[i].Tensor = make([]float32, c.Config.Depth()*c.Config.Width*c.Config.Height)
		if err := imaging.Tensor(cases[i].Tensor, data, c.Config.WithDefaults()); err != nil {
			t.Fatal(err)
		}
	}
	// Decoders of JPEG (libjpeg-turbo's and Go's) differ by some levels at edges.
	golden(t, "testdata/pictures.json", cases, cmpopts.EquateApprox(0, 0.1))
}

func read[T any](t *testing.T, path string) T {
	t.Helper()
	var v T
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func golden[T any](t *testing.T, path string, got []T, options ...cmp.Option) {
	t.Helper()
	if *update {
		var b strings.Builder
		for i, v := range got {
			line, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			b.WriteString([]string{"[\n", ",\n"}[min(i, 1)])
			b.Write(line)
		}
		b.WriteString("\n]\n")
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(read[[]T](t, path), got, options...); diff != "" {
		t.Errorf("%s is not what Go makes now; if that is meant, run go test ./python -update (-golden +now):\n%.3000s", path, diff)
	}
}
