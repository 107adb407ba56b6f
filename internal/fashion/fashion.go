// Package fashion reads the training data: some 42,000 products of a fashion
// shop, a quarter of them with a photo, and splits them into training,
// validation and test so that nothing in one part has a twin in another.
//
// The trainers, the fusion, the evaluation and the goldens all call this
// package, so that they speak of the same products. It reads; it never copies
// data into the project.
package fashion

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Product is one row of products.csv.
type Product struct {
	ID                     int
	Title                  string
	Master, Sub, Type      string // masterCategory, subCategory, articleType
	Gender, Colour, Season string
	Usage                  string
	Photo                  bool // images/ID.jpg exists
}

// Attributes are the product's attributes by the names that Aisle's models
// read. The category columns are not among them.
func (p Product) Attributes() map[string]string {
	m := map[string]string{}
	for i, v := range []string{p.Gender, p.Colour, p.Season, p.Usage} {
		if v != "" && v != "NA" {
			m[AttributeNames[i]] = v
		}
	}
	return m
}

// AttributeNames are the keys that [Product.Attributes] can have.
var AttributeNames = [...]string{"gender", "colour", "season", "usage"}

// Dir returns the folder of the data: AISLE_DATA, or ../shared/data, either
// one relative to the project's root, plus "fashion". It fails with an error
// that is fs.ErrNotExist when the data is not there.
func Dir(getenv func(string) string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	data := cmp.Or(getenv("AISLE_DATA"), filepath.Join("..", "shared", "data"))
	if !filepath.IsAbs(data) {
		data = filepath.Join(root, data)
	}
	dir := filepath.Join(data, "fashion")
	if _, err := os.Stat(filepath.Join(dir, "products.csv")); err != nil {
		return "", fmt.Errorf("the fashion data is not there; set AISLE_DATA to the folder that holds fashion/products.csv: %w", err)
	}
	return dir, nil
}

// Root returns the project's root: the closest folder at or above the working
// directory that has a go.mod.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || up == dir {
			return "", fmt.Errorf("no go.mod at or above the working directory: run this inside the project")
		}
		dir = up
	}
}

// Photo returns the path of the photo of the product with the given id.
func Photo(dir string, id int) string {
	return filepath.Join(dir, "images", strconv.Itoa(id)+".jpg")
}

var columns = []string{"id", "gender", "masterCategory", "subCategory", "articleType",
	"baseColour", "season", "year", "usage", "productDisplayName", "has_image"}

// Read reads dir/products.csv, by rising id. Ids are unique.
func Read(dir string) ([]Product, error) {
	f, err := os.Open(filepath.Join(dir, "products.csv"))
	if err != nil {
		return nil, fmt.Errorf("read fashion data: %w", err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read fashion data: %w", err)
	}
	if len(rows) < 2 || !slices.Equal(rows[0], columns) {
		return nil, fmt.Errorf("read fashion data: products.csv should begin with the columns %v", columns)
	}
	products := make([]Product, 0, len(rows)-1)
	for i, r := range rows[1:] {
		id, err := strconv.Atoi(r[0])
		if err != nil {
			return nil, fmt.Errorf("read fashion data: row %d: id %q is not a number", i+2, r[0])
		}
		products = append(products, Product{ID: id, Gender: r[1], Master: r[2], Sub: r[3], Type: r[4],
			Colour: r[5], Season: r[6], Usage: r[8], Title: r[9], Photo: r[10] == "1"})
	}
	slices.SortFunc(products, func(a, b Product) int { return cmp.Compare(a.ID, b.ID) })
	for i := 1; i < len(products); i++ {
		if products[i].ID == products[i-1].ID {
			return nil, fmt.Errorf("read fashion data: id %d occurs twice", products[i].ID)
		}
	}
	return products, nil
}

// MinPhotos is how many photos an article type needs to become a label.
const MinPhotos = 50

// Labels returns the article types with at least MinPhotos photos, sorted.
func Labels(products []Product) []string {
	photos := map[string]int{}
	for _, p := range products {
		if p.Photo {
			photos[p.Type]++
		}
	}
	var labels []string
	for t, n := range photos {
		if n >= MinPhotos {
			labels = append(labels, t)
		}
	}
	slices.Sort(labels)
	return labels
}

// Labelled returns the products whose type is one of labels (sorted).
func Labelled(products []Product, labels []string) []Product {
	var out []Product
	for _, p := range products {
		if _, ok := slices.BinarySearch(labels, p.Type); ok {
			out = append(out, p)
		}
	}
	return out
}

// Pair is a type's place in the tree of categories.
type Pair struct{ Master, Sub string }

// Parents returns, for each label, the pair of master and sub category that
// most of its products have; among equals, the first in alphabetical order.
func Parents(products []Product, labels []string) map[string]Pair {
	count := map[string]map[Pair]int{}
	for _, p := range Labelled(products, labels) {
		if count[p.Type] == nil {
			count[p.Type] = map[Pair]int{}
		}
		count[p.Type][Pair{p.Master, p.Sub}]++
	}
	parents := map[string]Pair{}
	for t, pairs := range count {
		best := Pair{}
		for pair, n := range pairs {
			if d := n - pairs[best]; d > 0 || d == 0 && (pair.Master+"\x00"+pair.Sub) < (best.Master+"\x00"+best.Sub) {
				best = pair
			}
		}
		parents[t] = best
	}
	return parents
}
