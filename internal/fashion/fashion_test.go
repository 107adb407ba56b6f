package fashion

import (
	"errors"
	"image"
	"image/color"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestRead(t *testing.T) {
	const head = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName,has_image\n"
	for _, tc := range []struct {
		name, csv string
		want      []Product
	}{
		{"by rising id", head + "9,Men,Apparel,Topwear,Shirts,Blue,Fall,2011,Casual,\"Shirt, blue\",1\n3,Women,Apparel,Dress,Dresses,,Summer,,,Dress,0\n", []Product{
			{ID: 3, Title: "Dress", Master: "Apparel", Sub: "Dress", Type: "Dresses", Gender: "Women", Season: "Summer"},
			{ID: 9, Title: "Shirt, blue", Master: "Apparel", Sub: "Topwear", Type: "Shirts", Gender: "Men", Colour: "Blue", Season: "Fall", Usage: "Casual", Photo: true},
		}},
		{"no rows", head, nil},
		{"other columns", "id,title\n1,x\n", nil},
		{"id twice", head + "9,,,,,,,,,a,0\n9,,,,,,,,,b,0\n", nil},
		{"id not a number", head + "x,,,,,,,,,a,0\n", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "products.csv"), []byte(tc.csv), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := Read(dir)
			if (err == nil) != (tc.want != nil) {
				t.Fatalf("Read: %v", err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("products (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDirSaysWhatIsMissing(t *testing.T) {
	_, err := Dir(func(string) string { return t.TempDir() })
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Dir: %v: want an error that is fs.ErrNotExist", err)
	}
}

func TestAttributesLeaveOutCategories(t *testing.T) {
	p := Product{Master: "Apparel", Sub: "Topwear", Type: "Shirts", Gender: "Men", Colour: "NA", Usage: "Casual"}
	want := map[string]string{"gender": "Men", "usage": "Casual"}
	if diff := cmp.Diff(want, p.Attributes()); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
}

func TestParents(t *testing.T) {
	ps := []Product{
		{Type: "Tops", Master: "Apparel", Sub: "Topwear"}, {Type: "Tops", Master: "Apparel", Sub: "Dress"}, {Type: "Tops", Master: "Apparel", Sub: "Dress"},
		{Type: "Socks", Master: "B", Sub: "x"}, {Type: "Socks", Master: "A", Sub: "y"},
	}
	want := map[string]Pair{"Tops": {"Apparel", "Dress"}, "Socks": {"A", "y"}}
	if diff := cmp.Diff(want, Parents(ps, []string{"Socks", "Tops"})); diff != "" {
		t.Errorf("parents (-want +got):\n%s", diff)
	}
}

func TestSplitKeepsTogether(t *testing.T) {
	ps := []Product{{ID: 1, Title: "Blue Shirt"}, {ID: 2, Title: "red tie"}, {ID: 3, Title: "BLUE  shirt!"}, {ID: 4, Title: "sock"}, {ID: 5, Title: "belt"}}
	s := NewSplit(ps, []Twin{{A: 1, B: 3, Distance: 0.1}, {A: 2, B: 3, Distance: 0.05}})
	if diff := cmp.Diff([]int{1, 1, 1, 1, 5}, s.Component); diff != "" {
		t.Errorf("components (-want +got):\n%s", diff)
	}
	if s.Part[0] != s.Part[1] || s.Part[0] != s.Part[2] || s.Part[0] != s.Part[3] {
		t.Errorf("parts %v: want the first four in one", s.Part)
	}
}

func TestComponents(t *testing.T) {
	ps := []Product{{ID: 1, Title: "a"}, {ID: 2, Title: "b"}, {ID: 3, Title: "A"}, {ID: 4, Title: "a"}}
	s := &Set{Products: ps, Split: NewSplit(ps, nil)}
	if diff := cmp.Diff([]int{1, 2, 1}, s.Components(ps[:3])); diff != "" {
		t.Errorf("components (-want +got):\n%s", diff)
	}
}

func TestSplitStopsChains(t *testing.T) {
	n := 3 * MaxComponent
	ps, twins := make([]Product, n), []Twin{}
	for i := range ps {
		ps[i] = Product{ID: i + 1, Title: string(rune(0x4e00 + i))}
		if i > 0 {
			twins = append(twins, Twin{A: i - 1, B: i, Distance: 0.1})
		}
	}
	s, size := NewSplit(ps, twins), map[int]int{}
	for _, c := range s.Component {
		size[c]++
	}
	for c, got := range size {
		if got > MaxComponent {
			t.Errorf("component %d has %d products, more than %d", c, got, MaxComponent)
		}
	}
	if s.Refused == 0 {
		t.Error("no pair was refused")
	}
}

// Which products are asked about must not matter to a component's part.
func TestSplitProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "n")
		ps := make([]Product, n)
		for i := range ps {
			ps[i] = Product{ID: 10 + i, Title: rapid.StringMatching(`[ab]{1,4}`).Draw(t, "title")}
		}
		var twins []Twin
		for range rapid.IntRange(0, n/2).Draw(t, "twins") {
			a := rapid.IntRange(0, n-1).Draw(t, "a")
			b := rapid.IntRange(0, n-1).Draw(t, "b")
			twins = append(twins, Twin{min(a, b), max(a, b), rapid.Float64Range(0, TwinDistance).Draw(t, "d")})
		}
		s := NewSplit(ps, twins)
		part := map[string]Part{}
		for i, p := range ps {
			if was, ok := part[p.Title]; ok && was != s.Part[i] {
				t.Fatalf("title %q is in %s and in %s", p.Title, was, s.Part[i])
			}
			part[p.Title] = s.Part[i]
			if s.Part[i] != partOf(s.Component[i]) {
				t.Fatalf("product %d is not in its component's part", p.ID)
			}
		}
		for _, w := range twins {
			if s.Part[w.A] != s.Part[w.B] {
				t.Fatalf("twins %d and %d are in different parts", w.A, w.B)
			}
		}
	})
}

func TestSharesOfParts(t *testing.T) {
	n := map[Part]int{}
	for id := range 20000 {
		n[partOf(id)]++
	}
	for part, want := range map[Part]int{Train: 14000, Validation: 3000, Test: 3000} {
		if d := n[part] - want; d < -250 || d > 250 {
			t.Errorf("%s has %d of 20000, want about %d", part, n[part], want)
		}
	}
}

// picture draws a square of the given grey on white.
func picture(size, from, to int, grey uint8) image.Image {
	im := image.NewNRGBA(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			c := color.NRGBA{255, 255, 255, 255}
			if x >= from && x < to && y >= from && y < to {
				c = color.NRGBA{grey, grey, grey, 255}
			}
			im.Set(x, y, c)
		}
	}
	return im
}

func distance(a, b image.Image) float64 {
	x, y := newThumb(a), newThumb(b)
	return relative(x, y, 10)
}

func TestDistance(t *testing.T) {
	black := picture(240, 60, 180, 0)
	for _, tc := range []struct {
		name     string
		a, b     image.Image
		low, hig float64
	}{
		{"the same", black, black, 0, 0},
		{"the same at another size", black, picture(120, 30, 90, 0), 0, 0.001},
		{"another shade", black, picture(240, 60, 180, 40), 0.1, 0.2},
		{"another place", black, picture(240, 0, 120, 0), 0.5, 2},
		{"pale things differ as much as dark ones", picture(240, 60, 180, 235), picture(240, 0, 120, 235), 0.5, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if d := distance(tc.a, tc.b); d < tc.low || d > tc.hig {
				t.Errorf("distance %.3f, want %.3f to %.3f", d, tc.low, tc.hig)
			}
		})
	}
}

// A pair is rejected early only when the whole distance is above the limit.
func TestEarlyRejectionIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) *thumb {
			im := image.NewNRGBA(image.Rect(0, 0, 30, 30))
			for i := range im.Pix {
				im.Pix[i] = 255
			}
			for range rapid.IntRange(0, 4).Draw(t, name) {
				x, y := rapid.IntRange(0, 29).Draw(t, "x"), rapid.IntRange(0, 29).Draw(t, "y")
				for j := y; j < min(30, y+10); j++ {
					for i := x; i < min(30, x+10); i++ {
						im.Pix[im.PixOffset(i, j)] = rapid.Byte().Draw(t, "red")
					}
				}
			}
			return newThumb(im)
		}
		a, b := draw("a"), draw("b")
		whole := relative(a, b, 1e6)
		limit := rapid.Float64Range(0.01, 2).Draw(t, "limit")
		if diff := whole - limit; diff < 1e-4 && diff > -1e-4 {
			t.Skip("at the limit, rounding decides")
		}
		if got := relative(a, b, limit); (got <= limit) != (whole <= limit) {
			t.Fatalf("limit %v: %v, but the whole distance is %v", limit, got, whole)
		}
	})
}
