package reduce

import (
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"aisle.dev/aisle/internal/prediction"
)

// stackOf makes a stack of two legs over labels, with coefficients that f gives.
func stackOf(t interface{ Fatal(...any) }, labels []string, f func(feature, label int) float64) *Stack {
	pool := Pool{Weights: []float64{1, 0.8}, Temperature: 1.2, PriorWeight: 0.4, Prior: map[string]float64{}}
	for y, label := range labels {
		pool.Prior[label] = float64(y+1) / float64(len(labels)*(len(labels)+1)/2)
	}
	var rows [][]float64
	for i := range StackFeatures(2, len(labels)) {
		row := make([]float64, len(labels))
		for c := range row {
			row[c] = f(i, c)
		}
		rows = append(rows, row)
	}
	s, err := NewStack(pool, labels, rows)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStackByHand(t *testing.T) {
	ab := []string{"a", "b"}
	// Features: constant, title missing, photo missing, title sees a, b, photo sees a, b.
	s := stackOf(t, ab, func(f, c int) float64 {
		return [][]float64{{0.1, 0}, {0, 0.2}, {0.3, 0}, {0.5, 0}, {0, 0}, {0, 0}, {0.7, 0}}[f][c]
	})
	title, photo := list(ab, []float64{0.4, 0.6}), list(ab, []float64{0.2, 0.8})
	for _, tt := range []struct {
		name string
		legs [][]prediction.Prediction
		add  float64 // to log p(a)/p(b) of the pool
	}{
		{"both", [][]prediction.Prediction{title, photo}, 0.1 + 0.5*math.Log(0.4/Sight) + 0.7*math.Log(0.8/Sight)},
		{"no photo", [][]prediction.Prediction{title, nil}, 0.1 + 0.3 + 0.5*math.Log(0.4/Sight)},
		{"no title", [][]prediction.Prediction{nil, photo}, 0.1 - 0.2 + 0.7*math.Log(0.8/Sight)},
		{"what is not in sight", [][]prediction.Prediction{list(ab, []float64{0, 1}), nil}, 0.1 + 0.3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ratio := func(out []prediction.Prediction) float64 {
				p := map[string]float64{}
				for _, x := range out {
					p[x.Label] = x.Probability
				}
				return math.Log(p["a"] / p["b"])
			}
			if got, want := ratio(s.Answers(tt.legs)), ratio(s.pool.Answers(tt.legs))+tt.add; math.Abs(got-want) > 1e-9 {
				t.Errorf("log p(a)/p(b) is %v, want %v", got, want)
			}
		})
	}
}

func TestStackProperties(t *testing.T) {
	universe := []string{"a", "b", "c", "d", "e", "f"} // one less than draw has
	random := func(t *rapid.T) *Stack {
		seed := rapid.IntRange(1, 1000).Draw(t, "coefficients")
		return stackOf(t, universe, func(f, c int) float64 { return math.Sin(float64(seed * (f*7 + c + 1))) })
	}
	two := func(t *rapid.T) [][]prediction.Prediction {
		legs := draw(t).legs
		return append(legs, nil)[:2]
	}
	t.Run("sums to one, whatever the legs answer", rapid.MakeCheck(func(t *rapid.T) {
		legs := two(t)
		if rapid.Bool().Draw(t, "hostile") {
			legs[0][0].Probability = rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), -3, 9}).Draw(t, "p")
		}
		var sum float64
		for _, p := range random(t).Answers(legs) {
			if !(p.Probability >= 0 && p.Probability <= 1) {
				t.Fatalf("%v", p)
			}
			sum += p.Probability
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Fatalf("sums to %v", sum)
		}
	}))
	t.Run("the labels' order does not matter", rapid.MakeCheck(func(t *rapid.T) {
		s, legs := random(t), two(t)
		var shuffled [][]prediction.Prediction
		for _, leg := range legs {
			shuffled = append(shuffled, rapid.Permutation(leg).Draw(t, "order"))
		}
		same(t, "permuted", s.Answers(legs), s.Answers(shuffled))
	}))
	t.Run("coefficients of 0 are the pool", rapid.MakeCheck(func(t *rapid.T) {
		s, legs := stackOf(t, universe, func(int, int) float64 { return 0 }), two(t)
		same(t, "without coefficients", s.pool.Answers(legs), s.Answers(legs))
	}))
	t.Run("what is fitted is what serves", rapid.MakeCheck(func(t *rapid.T) {
		s := random(t)
		var lists [][]prediction.Prediction
		var dense [][]float64
		for range 2 {
			p := simplex(t, len(universe))
			lists, dense = append(lists, list(universe, p)), append(dense, p)
		}
		out := make([]float64, len(universe))
		s.Fuse(out, dense, s.pool.shares(make([]float64, len(universe)), universe))
		same(t, "fused", list(universe, out), s.Answers(lists))
	}))
	t.Run("a package that is written is read again, its legs in any order", rapid.MakeCheck(func(t *rapid.T) {
		s, legs := random(t), two(t)
		files, err := s.Package([]string{"title", "photo"}, map[string]float64{"folds": 5})
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseStack(files[StackFile], files[CoefficientsFile], []string{"photo", "title"})
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(legs)
		want := s.Answers([][]prediction.Prediction{legs[1], legs[0]})
		same(t, "read", want, got.Answers(legs))
	}))
}

func TestLoadStackRefuses(t *testing.T) {
	s := stackOf(t, []string{"a", "b"}, func(f, c int) float64 { return float64(f) })
	files, err := s.Package([]string{"title", "photo"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, table := string(files[StackFile]), string(files[CoefficientsFile])
	// again writes the digest anew, so that what is wrong with the table is seen.
	again := func(table string) (string, string) {
		s, err := s.Package([]string{"title", "photo"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Replace(string(s[StackFile]), digestOf(string(s[CoefficientsFile])), digestOf(table), 1), table
	}
	for _, tt := range []struct {
		name        string
		text, table string
		legs        []string
		want        string
	}{
		{"other legs", text, table, []string{"title", "sound"}, "fit again with `aisle compose fit`"},
		{"a leg more", text, table, []string{"title", "photo", "sound"}, "fit again"},
		{"a leg less", text, table, []string{"title"}, "fit again"},
		{"another table", text, table + "\n", []string{"title", "photo"}, "is not the file that stack.yaml was written with"},
		{"an unknown field", text + "x: 1\n", table, []string{"title", "photo"}, "field x not found"},
		{"another kind", strings.Replace(text, "kind: Stack", "kind: Pool", 1), table, []string{"title", "photo"}, `kind "Pool": want`},
		{"no temperature", strings.Replace(text, "temperature: 1.2", "temperature: 0", 1), table, []string{"title", "photo"}, "temperature is 0"},
		{"a leg twice", strings.Replace(text, "name: photo", "name: title", 1), table, []string{"title", "title"}, "fit again"},
		{"no legs", "apiVersion: aisle.dev/v1alpha1\nkind: Stack\n", table, nil, "it has 0 legs"},
		{"not YAML", "\t", table, []string{"title", "photo"}, "stack.yaml: "},
		{"nothing at all", "", table, []string{"title", "photo"}, "stack.yaml: EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) { refused(t, tt.text, tt.table, tt.legs, tt.want) })
	}
	for name, tt := range map[string]struct{ from, to, want string }{
		"another header":     {"feature,leg", "leg,feature", "line 1: want the header"},
		"a label twice":      {"label,a,b", "label,a,a", `line 7: it begins with`},
		"a feature too few":  {"sees,photo,b,6,6\n", "", "the line sees,photo,b"},
		"a feature too many": {"sees,photo,b,6,6\n", "sees,photo,b,6,6\nsees,photo,b,6,6\n", "there is more after"},
		"other order":        {"missing,title", "missing,photo", "line 4: it begins with"},
		"no number":          {"constant,,,0,0", "constant,,,x,0", `line 3: "x" is not a number`},
		"not a number":       {"constant,,,0,0", "constant,,,NaN,0", "each from -100 to 100"},
		"huge":               {"constant,,,0,0", "constant,,,1e300,0", "each from -100 to 100"},
		"a column too few":   {"constant,,,0,0", "constant,,,0", "wrong number of fields"},
		"a prior of 0":       {"prior,,,0.3333333333333333", "prior,,,0", "line 2: the prior of"},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(table, tt.from) {
				t.Fatalf("no %q in\n%s", tt.from, table)
			}
			text, table := again(strings.Replace(table, tt.from, tt.to, 1))
			refused(t, text, table, []string{"title", "photo"}, tt.want)
		})
	}
	t.Run("no folder", func(t *testing.T) {
		if _, _, err := LoadStack(fstest.MapFS{}, "stack", nil); err == nil || !strings.Contains(err.Error(), "aisle compose fit") {
			t.Error(err)
		}
	})
	t.Run("too large", func(t *testing.T) {
		dir := fstest.MapFS{"stack/" + StackFile: {Data: make([]byte, maxStackFile+1)}}
		if _, _, err := LoadStack(dir, "stack", nil); err == nil || !strings.Contains(err.Error(), "larger than") {
			t.Error(err)
		}
	})
	t.Run("the digest is of both files", func(t *testing.T) {
		digest := func(text string) string {
			dir := fstest.MapFS{"s/" + StackFile: {Data: []byte(text)}, "s/" + CoefficientsFile: {Data: []byte(table)}}
			_, d, err := LoadStack(dir, "s", []string{"title", "photo"})
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		if diff := cmp.Diff(digest(text), digest(text)); diff != "" || digest(text) == digest(text+"# changed\n") {
			t.Error("the digest says nothing", diff)
		}
	})
}

func refused(t *testing.T, text, table string, legs []string, want string) {
	t.Helper()
	if _, err := ParseStack([]byte(text), []byte(table), legs); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one with %q", err, want)
	}
}

func FuzzParseStack(f *testing.F) {
	s := stackOf(f, []string{"a", "b"}, func(f, c int) float64 { return float64(f - c) })
	files, err := s.Package([]string{"title", "photo"}, map[string]float64{"folds": 5})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(files[StackFile]), string(files[CoefficientsFile]))
	f.Add(string(files[StackFile]), "feature,leg,label,a\nprior,,,1\n")
	f.Add("legs: [{name: title}]", ",,,")
	f.Fuzz(func(t *testing.T, text, table string) {
		// The digest is put right, or nothing but the YAML would be fuzzed.
		text = strings.Replace(text, digestOf(string(files[CoefficientsFile])), digestOf(table), 1)
		s, err := ParseStack([]byte(text), []byte(table), []string{"title", "photo"})
		if err != nil {
			return
		}
		var sum float64
		for _, p := range s.Answers([][]prediction.Prediction{{{Label: "a", Probability: 0.7}, {Label: "b", Probability: 0.3}}, nil}) {
			sum += p.Probability
		}
		if !(math.Abs(sum-1) < 1e-9) {
			t.Fatalf("accepted, and its answer sums to %v", sum)
		}
	})
}

func digestOf(table string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(table))) }
