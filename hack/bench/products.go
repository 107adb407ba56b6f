package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"aisle.dev/aisle/internal/product"
)

// samples is the folder of the committed products.
const samples = "samples"

// sampleProduct is the first committed product, with its picture or without.
func sampleProduct(picture bool) (product.Product, error) {
	rows, err := csvRows(filepath.Join(samples, "products.csv"))
	if err != nil {
		return product.Product{}, err
	}
	p := product.Product{ID: rows[0]["id"], Title: rows[0]["title"]}
	if picture {
		data, err := os.ReadFile(filepath.Join(samples, rows[0]["image"]))
		if err != nil {
			return p, err
		}
		p.Images = []product.Image{{Data: data}}
	}
	return p, nil
}

// sampleBodies gives a sample product's JSON without its picture and with it.
func sampleBodies() (words, picture []byte, err error) {
	if words, err = productJSON(sampleProduct(false)); err != nil {
		return nil, nil, err
	}
	picture, err = productJSON(sampleProduct(true))
	return words, picture, err
}

func productJSON(p product.Product, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return json.Marshal(p)
}

// item is a product with a picture on disk.
type item struct{ id, title, image string }

// items returns n products with pictures: real ones from the data folder, in
// its order, else the samples over and over. It says which.
func items(data string, n int) ([]item, string, error) {
	if rows, err := csvRows(filepath.Join(data, "fashion", "products.csv")); err == nil {
		var all []item
		for _, r := range rows {
			if r["has_image"] == "1" && len(all) < n {
				all = append(all, item{r["id"], r["productDisplayName"], filepath.Join(data, "fashion", "images", r["id"]+".jpg")})
			}
		}
		return all, "real products with photos", nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, "", err
	}
	rows, err := csvRows(filepath.Join(samples, "products.csv"))
	if err != nil {
		return nil, "", err
	}
	all := make([]item, n)
	for i := range all {
		r := rows[i%len(rows)]
		all[i] = item{fmt.Sprintf("%s-%d", r["id"], i), r["title"], filepath.Join(samples, r["image"])}
	}
	return all, "sample products with drawings", nil
}

// csvRows reads a small CSV file with a header.
func csvRows(name string) ([]map[string]string, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r := csv.NewReader(bytes.NewReader(data))
	header, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var rows []map[string]string
	for {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		row := make(map[string]string, len(header))
		for i, h := range header {
			row[h] = rec[i]
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: no products", name)
	}
	return rows, nil
}
