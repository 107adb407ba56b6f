package models

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"aisle.dev/aisle/internal/fashion"
	"aisle.dev/aisle/internal/imaging"
	"aisle.dev/aisle/internal/mask"
	"aisle.dev/aisle/internal/model"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/ortlib"
	"aisle.dev/aisle/models/internal/replay"
)

var update = flag.Bool("update", false, "write testdata/golden.json anew")

const (
	goldenFile   = "testdata/golden.json"
	goldenSize   = 40
	pythonFile   = "testdata/photo-python.csv"
	sameLabel    = 0.995 // share of photos
	nearEnough   = 0.02  // difference of probability
	nearlyAlways = 0.95  // share of photos
)

// answer is what a model says of one product, and what of: never the product.
type answer struct {
	ID          int     `json:"id"`
	SHA256      string  `json:"sha256"` // of what the model reads
	Label       string  `json:"label"`
	Probability float64 `json:"probability"`
}

// data returns the data's folder and products by id, or skips.
func data(t *testing.T) (string, map[int]fashion.Product, []string) {
	t.Helper()
	dir, err := fashion.Dir(os.Getenv)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("real products are needed: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	all, err := fashion.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	byID := map[int]fashion.Product{}
	for _, p := range all {
		byID[p.ID] = p
	}
	return dir, byID, fashion.Labels(all)
}

func open(t *testing.T, name string) *replay.Leg {
	t.Helper()
	lib, err := ortlib.Find(t.Context())
	if err != nil {
		t.Skipf("ONNX Runtime is needed: %v", err)
	}
	if err := onnx.Init(lib); err != nil {
		t.Fatal(err)
	}
	p, err := model.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	leg, err := replay.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := leg.Close(); err != nil {
			t.Error(err)
		}
	})
	return leg
}

// ask returns the answers to the products with the given ids.
func ask(t *testing.T, leg *replay.Leg, dir string, byID map[int]fashion.Product, ids []int, v replay.View) []answer {
	t.Helper()
	products := make([]fashion.Product, len(ids))
	for i, id := range ids {
		p, ok := byID[id]
		if !ok {
			t.Fatalf("the data has no product %d: is it other data?", id)
		}
		products[i] = p
	}
	all, err := leg.Probabilities(t.Context(), dir, products, v)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]answer, len(ids))
	for i, p := range all {
		best := 0
		for c := range p {
			if p[c] > p[best] {
				best = c
			}
		}
		out[i] = answer{ids[i], digest(t, leg, dir, products[i], v), leg.Package.Labels[best], math.Round(p[best]*1e6) / 1e6}
	}
	return out
}

func digest(t *testing.T, leg *replay.Leg, dir string, p fashion.Product, v replay.View) string {
	t.Helper()
	h := sha256.New()
	if slices.Contains(leg.Package.Spec.Reads, "images") {
		photo, err := os.ReadFile(fashion.Photo(dir, p.ID))
		if err != nil {
			t.Fatal(err)
		}
		h.Write(photo)
	}
	for _, f := range v.Fields(leg.Package.Spec.Reads, p) {
		fmt.Fprintf(h, "%s\x00%s\x00", f.Name, f.Text)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// What the shipped packages say of real products, through the code that
// serves, does not change unnoticed. Photos have a golden for each way in which
// they are decoded; -update writes this build's.
func TestGolden(t *testing.T) {
	dir, byID, labels := data(t)
	views := []struct {
		key, model string
		view       replay.View
	}{
		{"title", "title", replay.View{}},
		{"title, masked, no attributes", "title", replay.View{Mask: mask.New(labels), Bare: true}},
		{"photo", "photo", replay.View{}},
	}
	if imaging.Turbo {
		views[2].key = "photo, by libjpeg-turbo"
	}
	want := map[string][]answer{}
	if text, err := os.ReadFile(goldenFile); err == nil {
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
	} else if !*update {
		t.Fatalf("%v; write it with: go test ./models -run TestGolden -update", err)
	}
	got := maps.Clone(want)
	for _, v := range views {
		ids := ids(want[v.key])
		if *update {
			ids = some(byID, labels)
		}
		got[v.key] = ask(t, open(t, v.model), dir, byID, ids, v.view)
	}
	if *update {
		text, err := json.MarshalIndent(got, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenFile, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, v := range views {
		if len(want[v.key]) < goldenSize {
			t.Errorf("%s: %d goldens, want %d", v.key, len(want[v.key]), goldenSize)
		}
		for i, w := range want[v.key] {
			g := got[v.key][i]
			if g.SHA256 != w.SHA256 {
				t.Errorf("%s: product %d is not the one that the golden is of", v.key, w.ID)
			}
			// Processors differ in the order in which they sum.
			if g.Label != w.Label && w.Probability > 0.51 || math.Abs(g.Probability-w.Probability) > 1e-3 {
				t.Errorf("%s: product %d: %s %v, want %s %v", v.key, w.ID, g.Label, g.Probability, w.Label, w.Probability)
			}
		}
	}
}

// Serving's preprocessing of photos equals training's (Pillow), within what the
// model's answers can tell.
func TestPhotoPreprocessingEqualsTraining(t *testing.T) {
	dir, byID, _ := data(t)
	want := readPython(t)
	if len(want) < 300 {
		t.Fatalf("%d photos in %s: want some hundreds", len(want), pythonFile)
	}
	got := ask(t, open(t, "photo"), dir, byID, ids(want), replay.View{})
	same, near, worst := 0, 0, 0.0
	for i, w := range want {
		g := got[i]
		if g.SHA256 != w.SHA256 {
			t.Errorf("photo %d is not the one that Python saw", w.ID)
		}
		d := math.Abs(g.Probability - w.Probability)
		if g.Label == w.Label {
			same++
			if d <= nearEnough {
				near++
			}
		}
		worst = max(worst, d)
	}
	n := float64(len(want))
	t.Logf("%d photos: same label %.4f, probability within %v on %.4f, worst %.4f", len(want), float64(same)/n, nearEnough, float64(near)/n, worst)
	if float64(same)/n < sameLabel {
		t.Errorf("same label on %d of %d photos, want %v of them", same, len(want), sameLabel)
	}
	if float64(near)/n < nearlyAlways {
		t.Errorf("probability within %v on %d of %d photos, want %v of them", nearEnough, near, len(want), nearlyAlways)
	}
}

func ids(answers []answer) []int {
	out := make([]int, len(answers))
	for i, a := range answers {
		out[i] = a.ID
	}
	return out
}

// some returns ids of products of the labelled types that have a photo.
func some(byID map[int]fashion.Product, labels []string) []int {
	var all []int
	for id, p := range byID {
		if p.Photo && slices.Contains(labels, p.Type) {
			all = append(all, id)
		}
	}
	slices.Sort(all)
	var out []int
	for i := range goldenSize {
		out = append(out, all[i*len(all)/goldenSize])
	}
	return out
}

func readPython(t *testing.T) []answer {
	t.Helper()
	f, err := os.Open(filepath.FromSlash(pythonFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []answer
	for _, r := range rows[1:] {
		id, err := strconv.Atoi(r[0])
		if err != nil {
			t.Fatal(err)
		}
		p, err := strconv.ParseFloat(r[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, answer{id, r[1], r[2], p})
	}
	return out
}
