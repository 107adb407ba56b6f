package taxonomy

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
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
