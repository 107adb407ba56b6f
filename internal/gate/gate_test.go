package gate

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/product"
)

var someLegs = []string{"title", "photo", "photo-large", "if"}

func someInput() Input {
	return Input{
		Product: product.Product{
			ID: "p1", Title: "Red shirt", Brand: "Acme", Attributes: map[string]string{"colour": "red"},
			Images: []product.Image{{URL: "https://a/b.jpg"}, {Data: []byte("x")}},
		},
		Event: map[string]string{"type": "dev.aisle.product.v1"},
		Legs: map[string]Leg{
			"title":       {Label: "Shirts", Confidence: 0.8, Margin: 0.7, Answered: true},
			"photo":       {Failed: true},
			"photo-large": {Skipped: true},
			"if":          {},
		},
	}
}

func TestEval(t *testing.T) {
	for _, tt := range []struct {
		expr     string
		want     bool
		mentions []string
		fails    string // when it is told
	}{
		{expr: "true", want: true},
		{expr: "legs.title.failed || legs.title.confidence < 0.9", want: true, mentions: []string{"title"}},
		{expr: "legs.title.confidence < 1", want: true, mentions: []string{"title"}},
		{expr: "legs.title.margin > 0.75", mentions: []string{"title"}},
		{expr: "legs.photo.failed && legs.title.answered && legs.title.label == 'Shirts'", want: true, mentions: []string{"photo", "title"}},
		{expr: "legs.`photo-large`.skipped", want: true, mentions: []string{"photo-large"}},
		{expr: "legs.if.answered", mentions: []string{"if"}},
		{expr: `product.brand == "Acme" && product.id != ""`, want: true},
		{expr: `product.title.matches("(?i)SHIRT")`, want: true},
		{expr: `product.description == ""`, want: true},
		{expr: `size(product.images) == 2 && product.images.exists(u, u.startsWith("https:"))`, want: true},
		{expr: `product.attributes.colour == "red"`, want: true},
		{expr: `has(product.attributes.size)`},
		{expr: `product.attributes["colour"].contains("e") && "size" in product.attributes`},
		{expr: `event.type == "dev.aisle.product.v1"`, want: true},
		{expr: `has(event.subject)`},
		{expr: `product.attributes.size == "M"`, fails: "no such key: size"},
		{expr: `1 / size(product.description) > 0`, fails: "division by zero"},
	} {
		t.Run(tt.expr, func(t *testing.T) {
			g, err := Compile(tt.expr, someLegs)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.mentions, g.Mentions()); diff != "" {
				t.Error(diff)
			}
			got, err := g.Eval(someInput())
			switch {
			case tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)):
				t.Errorf("got %v, want %q", err, tt.fails)
			case tt.fails == "" && (err != nil || got != tt.want):
				t.Errorf("got %v, %v", got, err)
			}
			if g.String() != tt.expr {
				t.Errorf("String: %q", g)
			}
		})
	}
}

func TestANilEventHasNoAttributes(t *testing.T) {
	g, err := Compile(`has(event.type) || "a" in product.attributes`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := g.Eval(Input{}); got || err != nil {
		t.Error(got, err)
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, tt := range []struct{ name, expr, want string }{
		{"empty", " ", "the expression is empty"},
		{"long", strings.Repeat("true || ", 300) + "true", "at most 2048"},
		{"no bool", "legs.title.confidence", "the expression gives a double; want a bool"},
		{"no type", "product.title < 3", "column 15: found no matching overload for '_<_' applied to '(string, int)'; the types do not go together"},
		{"unknown leg", "legs.titel.failed", `column 1: there is no leg "titel" here; there is title, photo, photo-large, if`},
		{"a dash", "legs.photo-big.failed", "written in backticks: legs.`photo-large`.confidence"},
		{"unknown field", "true || legs.title.confidense > 0.5", "of a leg, use answered, confidence, failed, label, margin, skipped"},
		{"a leg as a whole", "legs.title == legs.photo", "of a leg, use"},
		{"in brackets", `legs["title"].failed`, "legs.`a-b`.confidence"},
		{"unknown product field", "product.brnd == 'a'", `a product has no "brnd"; it has attributes, brand, description`},
		{"has of a field", "has(product.brand)", "every product has a brand, which may be empty"},
		{"unknown name", "titel.failed", "column 1: undeclared reference to 'titel'; an expression is about product, event and legs"},
		{"syntax", "legs.title.failed ||", "column 21: the expression ends too early"},
		{"one =", "product.brand = 'a'", "compare with =="},
		{"one &", "legs.title.failed & legs.photo.failed", "write && and ||"},
		{"second line", "true &&\n  product.title", "line 2, column 10"},
		{"deep", strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), "recursion"},
		{"costly", "product.attributes.all(a, product.attributes.all(b, product.attributes.all(c, a + b != c)))", "steps with the largest product"},
		{"a bad pattern", `product.title.matches("(")`, "missing closing )"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, err := Compile(tt.expr, someLegs)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, %v\nwant %q", g, err, tt.want)
			}
		})
	}
}

// What an expression may cost by its estimate, it does not exceed when it runs,
// with a product of the largest fields.
func TestCostOfTheLargestProduct(t *testing.T) {
	in := someInput()
	in.Product.Title, in.Product.Description = strings.Repeat("x", product.MaxTitle), strings.Repeat("y", product.MaxText)
	in.Product.Attributes = map[string]string{}
	for i := range product.MaxAttributes {
		in.Product.Attributes[fmt.Sprintf("%*d", product.MaxAttribute, i)] = strings.Repeat("z", product.MaxAttribute)
	}
	for _, expr := range []string{
		`product.description.matches("y+x") || product.title.contains("y")`,
		`product.attributes.exists(name, product.attributes[name].contains("a"))`,
		`product.attributes.exists(a, product.attributes.exists(b, a == b + "x"))`,
	} {
		g, err := Compile(expr, nil)
		if err != nil {
			t.Logf("%s: %v", expr, err)
			continue
		}
		if _, err := g.Eval(in); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{"legs.title.failed", "legs.`photo-large`.margin < 0.5", "has(product.attributes.a)", `product.title.matches("a+")`, "[1].map(x, x)", "product", "legs", "legs[1]", "\n\n(", "event.all(a, a == 'b')"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		g, err := Compile(expr, someLegs)
		if err != nil {
			return
		}
		for _, leg := range g.Mentions() {
			if !slices.Contains(someLegs, leg) {
				t.Errorf("mentions %q", leg)
			}
		}
		first, err := g.Eval(someInput())
		again, err2 := g.Eval(someInput())
		if first != again || (err == nil) != (err2 == nil) {
			t.Errorf("%v %v, then %v %v", first, err, again, err2)
		}
		_, _ = g.Eval(Input{}) // legs that are missing are an error, not a panic
	})
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := Compile("legs.title.failed || legs.title.confidence < 0.9", someLegs); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEval(b *testing.B) {
	g, err := Compile("legs.title.failed || legs.title.confidence < 0.9", someLegs)
	if err != nil {
		b.Fatal(err)
	}
	in := someInput()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Eval(in); err != nil {
			b.Fatal(err)
		}
	}
}
