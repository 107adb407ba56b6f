package taxonomy

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"aisle.dev/aisle/internal/prediction"
)

const small = "id,parent,name\nt,tops,T-shirts\napparel,,Apparel\ntops,apparel,Topwear\nshoes,,Shoes\n"

func TestLookUp(t *testing.T) {
	tree, err := Parse([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	got, ok := tree.Leaf("T-shirts")
	if diff := cmp.Diff(Leaf{ID: "t", Label: "T-shirts", Path: []string{"Apparel", "Topwear", "T-shirts"}}, got); diff != "" || !ok {
		t.Errorf("%v %s", ok, diff)
	}
	if l, ok := tree.Leaf("Shoes"); !ok || len(l.Path) != 1 {
		t.Errorf("a root without children is a leaf: %v %v", l, ok)
	}
	if _, ok := tree.Leaf("Topwear"); ok {
		t.Error("an inner category is no label")
	}
	if diff := cmp.Diff([]string{"Shoes", "T-shirts"}, tree.Labels()); diff != "" {
		t.Error(diff)
	}
	if tree.Len() != 4 {
		t.Errorf("%d categories", tree.Len())
	}
	if _, ok := (*Tree)(nil).Leaf("x"); ok {
		t.Error("no taxonomy knows no label")
	}
}

func TestRefuses(t *testing.T) {
	deep := strings.Builder{}
	deep.WriteString("id,parent,name\n0,,n\n")
	for i := range MaxDepth {
		fmt.Fprintf(&deep, "%d,%d,n\n", i+1, i)
	}
	tests := []struct{ name, csv, says string }{
		{"empty", "", "empty"},
		{"header only", "id,parent,name\n", "no categories"},
		{"other header", "id,name,parent\na,,A\n", "line 1"},
		{"two columns", "id,parent,name\na,\n", "line 2"},
		{"bad quote", "id,parent,name\na,,\"A\nb,,B\n", "line"},
		{"no id", "id,parent,name\n,,A\n", "line 2: the id"},
		{"no name", "id,parent,name\na,,A\nb,a,\n", "line 3: the name"},
		{"duplicate id", "id,parent,name\na,,A\nb,a,B\na,,C\n", "line 4: the id \"a\" is on line 2"},
		{"unknown parent", "id,parent,name\na,x,A\n", "line 2: the parent \"x\""},
		{"own parent", "id,parent,name\na,a,A\n", "line 2: \"a\" is its own parent"},
		{"cycle", "id,parent,name\nr,,R\na,b,A\nb,a,B\n", "line 3: \"a\" is its own ancestor"},
		{"below a cycle", "id,parent,name\nc,a,C\na,b,A\nb,a,B\n", "line 2"},
		{"ambiguous label", "id,parent,name\na,,A\nb,,B\nx,a,X\ny,b,X\n", "line 5: the label \"X\" is ambiguous: line 4"},
		{"same siblings", "id,parent,name\na,,A\nb,,A\nx,a,X\n", "same parent and name"},
		{"spaces", "id,parent,name\na,,A \n", "line 2"},
		{"not utf-8", "id,parent,name\na,,\xff\n", "line 2"},
		{"long", "id,parent,name\na,," + strings.Repeat("a", MaxField+1) + "\n", "line 2"},
		{"deep", deep.String(), "levels deep"},
		{"huge", strings.Repeat("a", MaxBytes+1), "at most"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Parse([]byte(tt.csv)); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

// A random forest written in random order is read back: every leaf with the
// path that it was made with.
func TestForests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "nodes")
		parent := make([]int, n)
		inner := map[int]bool{}
		depth := make([]int, n)
		for i := range parent {
			parent[i] = rapid.IntRange(-1, i-1).Draw(t, "parent")
			if parent[i] >= 0 && depth[parent[i]] < MaxDepth-2 {
				inner[parent[i]], depth[i] = true, depth[parent[i]]+1
			} else {
				parent[i] = -1
			}
		}
		name := func(i int) string { return fmt.Sprintf("name, \"%d\"", i) }
		var buf bytes.Buffer
		w := csv.NewWriter(&buf)
		_ = w.Write([]string{"id", "parent", "name"})
		for _, i := range rapid.Permutation(indices(n)).Draw(t, "order") {
			p := ""
			if parent[i] >= 0 {
				p = fmt.Sprint(parent[i])
			}
			_ = w.Write([]string{fmt.Sprint(i), p, name(i)})
		}
		w.Flush()
		tree, err := Parse(buf.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			leaf, ok := tree.Leaf(name(i))
			if ok == inner[i] {
				t.Fatalf("%d: inner %v, found %v", i, inner[i], ok)
			}
			if !ok {
				continue
			}
			var path []string
			for at := i; at >= 0; at = parent[at] {
				path = append([]string{name(at)}, path...)
			}
			if diff := cmp.Diff(path, leaf.Path); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

func indices(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// Parse never panics nor hangs, and every label of what it accepts is found
// with a path that ends in it.
func FuzzParse(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte("id,parent,name\na,b,A\nb,a,B\n"))
	f.Add([]byte("\ufeffid,parent,name\r\na,,\"A\nb\"\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tree, err := Parse(data)
		if err != nil {
			return
		}
		labels := tree.Labels()
		if len(labels) == 0 {
			t.Fatal("a forest without leaves")
		}
		for _, l := range labels {
			leaf, ok := tree.Leaf(l)
			if !ok || len(leaf.Path) == 0 || leaf.Path[len(leaf.Path)-1] != l || leaf.ID == "" {
				t.Fatalf("%q: %+v", l, leaf)
			}
		}
	})
}

// shop is a tree of three levels.
const shop = "id,parent,name\n1,,Fashion\n2,1,Shirts\n3,2,Polo\n4,2,Dress shirt\n5,1,Shoes\n6,,Home\n"

func TestAnswer(t *testing.T) {
	tree, err := Parse([]byte(shop))
	if err != nil {
		t.Fatal(err)
	}
	list := func(polo, dress, shoes, home, hat float64) []prediction.Prediction {
		return []prediction.Prediction{{Label: "Polo", Probability: polo}, {Label: "Dress shirt", Probability: dress}, {Label: "Shoes", Probability: shoes}, {Label: "Home", Probability: home}, {Label: "Hat", Probability: hat}}
	}
	for _, c := range []struct {
		name       string
		dist       []prediction.Prediction
		thresholds []float64
		want       string
		confidence float64
		sure       bool
	}{
		{"a leaf", list(0.9, 0.1, 0, 0, 0), []float64{0.8}, "3 Fashion/Shirts/Polo", 0.9, true},
		{"what two leaves share", list(0.5, 0.4, 0.1, 0, 0), []float64{0.8}, "2 Fashion/Shirts", 0.9, true},
		{"the root", list(0.4, 0.2, 0.3, 0.1, 0), []float64{0.8}, "1 Fashion", 0.9, true},
		{"nothing is sure", list(0.3, 0.1, 0.1, 0.3, 0.2), []float64{0.8}, "1 Fashion", 0.5, false},
		{"by level", list(0.75, 0.2, 0.05, 0, 0), []float64{0.99, 0.9, 0.7}, "3 Fashion/Shirts/Polo", 0.75, true},
		{"the last threshold is that of all below", list(0.75, 0.2, 0.05, 0, 0), []float64{0.99, 0.8}, "2 Fashion/Shirts", 0.95, true},
		{"a label that the tree lacks", list(0.05, 0, 0, 0, 0.95), []float64{0.9}, " Hat", 0.95, true},
		{"equally likely", list(0.5, 0.5, 0, 0, 0), []float64{0.5}, "3 Fashion/Shirts/Polo", 0.5, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, confidence, sure := tree.Answer(c.dist, c.thresholds)
			if got := n.ID + " " + strings.Join(n.Path, "/"); got != c.want || math.Abs(confidence-c.confidence) > 1e-9 || sure != c.sure {
				t.Errorf("got %s, %v, %v; want %s, %v, %v", got, confidence, sure, c.want, c.confidence, c.sure)
			}
		})
	}
}

// A category that has another name and place is the same one.
func TestSameID(t *testing.T) {
	old, err := Parse([]byte(shop))
	if err != nil {
		t.Fatal(err)
	}
	moved, err := Parse([]byte(strings.ReplaceAll(shop, "3,2,Polo", "3,1,Polo shirts")))
	if err != nil {
		t.Fatal(err)
	}
	a, _ := old.Node("3")
	b, ok := moved.Node("3")
	if !ok || a.Label != "Polo" || b.Label != "Polo shirts" || b.Level != 2 {
		t.Errorf("%+v is now %+v", a, b)
	}
	if label, ok := moved.Resolve("3"); !ok || label != "Polo shirts" {
		t.Errorf("3 stands for %q, %v", label, ok)
	}
	if _, ok := moved.Resolve("2"); ok {
		t.Error("a category with others below it was taken for a label")
	}
}

func TestParseHeureka(t *testing.T) {
	wrap := func(inner string) string { return "<HEUREKA>\n" + inner + "</HEUREKA>" }
	cat := func(id, name, inner string) string {
		return "<CATEGORY><CATEGORY_ID>" + id + "</CATEGORY_ID><CATEGORY_NAME>" + name + "</CATEGORY_NAME>" + inner + "</CATEGORY>"
	}
	for _, c := range []struct{ name, text, labels, err string }{
		{name: "a tree", text: wrap(cat("1", "A &amp; B", cat("2", "C", "<CATEGORY_FULLNAME>Heureka.cz | A &amp; B | C</CATEGORY_FULLNAME>"))), labels: "C"},
		{name: "an id after what is below", text: wrap("<CATEGORY>" + cat("2", "C", "") + "<CATEGORY_NAME>A</CATEGORY_NAME><CATEGORY_ID>1</CATEGORY_ID></CATEGORY>"), labels: "C"},
		{name: "a name of two leaves", text: wrap(cat("1", "A", cat("2", "C", "")) + cat("3", "B", cat("4", "C", ""))), labels: "A | C, B | C"},
		{name: "elements of no use", text: wrap("<X><CATEGORY><CATEGORY_ID>9</CATEGORY_ID></CATEGORY></X>" + cat("1", "A", "")), labels: "A"},
		{name: "an id twice", text: wrap(cat("1", "A", "") + cat("1", "B", "")), err: `line 2: the id "1" is on line 2 already`},
		{name: "no id", text: wrap("<CATEGORY><CATEGORY_NAME>A</CATEGORY_NAME></CATEGORY>"), err: "line 2: the category has no CATEGORY_ID"},
		{name: "no name", text: wrap(cat("1", " ", "")), err: "line 2: the category has no CATEGORY_NAME"},
		{name: "too deep", text: wrap(strings.Repeat("<CATEGORY>", 40)), err: "line 2: categories lie more than 32 levels deep"},
		{name: "none", text: wrap(""), err: "the taxonomy has no categories"},
		{name: "another file", text: "<html/>", err: `line 1: the first element is "html": want HEUREKA`},
		{name: "entities of its own", text: "<!DOCTYPE x [<!ENTITY a \"aaaa\">]>" + wrap(cat("1", "&a;", "")), err: "line 2: it is not XML: XML syntax error on line 2: invalid character entity &a;"},
		{name: "cut off", text: "<HEUREKA><CATEGORY>", err: "line 1: it is not XML: XML syntax error on line 1: unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree, err := ParseHeureka([]byte(c.text))
			if err != nil || c.err != "" {
				if fmt.Sprint(err) != c.err {
					t.Errorf("got %v, want %s", err, c.err)
				}
				return
			}
			if got := strings.Join(tree.Labels(), ", "); got != c.labels {
				t.Errorf("got %s, want %s", got, c.labels)
			}
		})
	}
}

func TestParseLabels(t *testing.T) {
	got, err := ParseLabels([]byte("label,category\nTshirts,17\nTees,17\n"))
	if diff := cmp.Diff(map[string]string{"Tshirts": "17", "Tees": "17"}, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	for text, want := range map[string]string{
		"":                           "line 1: want the header label,category",
		"label,category\n":           "it has no labels",
		"label,category\na,b\na,c\n": `line 3: the label "a" is on line 2 already`,
		"label,category\na,\n":       "line 2: want a label and the category that it stands for",
		"label,category\na,b,c\n":    "line 2: wrong number of fields; want a label and the category that it stands for",
		"label,category\n a,b\n":     `line 2: the label " a" begins or ends with a space`,
	} {
		if _, err := ParseLabels([]byte(text)); fmt.Sprint(err) != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

// The tree of 2014, where it is at hand.
func TestHeurekaOfOld(t *testing.T) {
	data, err := os.ReadFile("../../../shared/data/heureka/heureka-sekce-2014-11.xml")
	if err != nil {
		t.Skipf("Heureka's categories are not at hand: %v", err)
	}
	tree, err := ParseHeureka(data)
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := tree.Node("3328"); tree.Len() != 2430 || !ok || strings.Join(n.Path, " | ") != "Auto-moto | Autodíly | Auto blinkry" {
		t.Errorf("%d categories, 3328 is %+v", tree.Len(), n)
	}
}

func FuzzParseHeureka(f *testing.F) {
	f.Add([]byte("<HEUREKA><CATEGORY><CATEGORY_ID>1</CATEGORY_ID><CATEGORY_NAME>A</CATEGORY_NAME></CATEGORY></HEUREKA>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tree, err := ParseHeureka(data)
		if err != nil {
			return
		}
		for _, label := range tree.Labels() {
			leaf, _ := tree.Leaf(label)
			if n, ok := tree.Node(leaf.ID); !ok || n.Label != label {
				t.Errorf("the leaf %+v is the category %+v", leaf, n)
			}
		}
	})
}
