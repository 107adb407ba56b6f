package mask

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMask(t *testing.T) {
	fashion := []string{"Tshirts", "Casual Shoes", "Dresses", "Watches", "Accessories", "Perfume and Body Mist", "Flip Flops"}
	for _, tc := range []struct {
		name    string
		classes []string
		in      string
		want    string
	}{
		{"no classes", nil, "Puma Men's Shoe", "puma men s shoe"},
		{"plural class, singular title", fashion, "Titan Black Watch", "titan black"},
		{"plural class, plural title", fashion, "Casual Watches", ""},
		{"es", fashion, "Red Dress for girls", "red for girls"},
		{"ies", fashion, "Hair Accessory", "hair"},
		{"singular class, plural title", fashion, "Perfumes & body MISTS", ""},
		{"and stays", fashion, "Black and White Belt", "black and white belt"},
		{"a word of a longer name", fashion, "Flip-Flop in casual style", "in style"},
		{"T-shirt", fashion, "Nike T-Shirt Blue", "nike blue"},
		{"t shirts", fashion, "Nike t shirts Blue", "nike blue"},
		{"tshirt", fashion, "Nike Tshirt Blue", "nike blue"},
		{"class written T-shirt", []string{"T-Shirts"}, "a tshirt, a T shirt, a shirt, a T", "a a a shirt a t"},
		{"shirts mask T-shirts too", []string{"Shirts"}, "Nike T-Shirt or Shirt", "nike or"},
		{"only whole words", []string{"Tops"}, "Laptop top stop", "laptop stop"},
		{"ss", []string{"Dress"}, "two dresses", "two"},
		{"accents", []string{"Décor"}, "decors DÉCOR décor home", "home"},
		{"other script", []string{"Юбки"}, "синие юбки", "синие"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := New(tc.classes).Mask(tc.in); got != tc.want {
				t.Errorf("Mask(%q) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}

func TestMaskLeavesNoClassWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-z]{2,8}`)
		classes := rapid.SliceOfN(word, 1, 4).Draw(t, "classes")
		title := strings.Join(rapid.SliceOf(rapid.OneOf(word, rapid.SampledFrom(classes))).Draw(t, "title"), " ")
		m := New(classes)
		got := m.Mask(title)
		for _, c := range classes {
			if c != "and" && strings.Contains(" "+got+" ", " "+c+" ") {
				t.Fatalf("Mask(%q) = %q still names the class %q", title, got, c)
			}
		}
		if again := m.Mask(got); again != got {
			t.Fatalf("masking twice differs: %q, then %q", got, again)
		}
	})
}
