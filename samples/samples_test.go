package samples_test

import (
	"bytes"
	"errors"
	"image"
	_ "image/jpeg"
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/feed"
)

func read(t *testing.T, name string) []feed.Item {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := feed.New(f, feed.Options{Name: name, Category: true})
	if err != nil {
		t.Fatal(err)
	}
	var items []feed.Item
	for {
		item, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || item.Err != nil {
			t.Fatal(err, item.Err)
		}
		item.Line = 0 // the CSV has a header
		items = append(items, item)
	}
	if len(r.Notes()) > 0 {
		t.Errorf("%s: %v", name, r.Notes())
	}
	return items
}

func TestSamples(t *testing.T) {
	csv, ndjson := read(t, "products.csv"), read(t, "products.ndjson")
	if diff := cmp.Diff(csv, ndjson); diff != "" {
		t.Errorf("the two files differ (-csv +ndjson):\n%s", diff)
	}
	pictures, err := feed.OpenPictures(".", "")
	if err != nil {
		t.Fatal(err)
	}
	defer pictures.Close()
	categories := map[string]bool{}
	for _, item := range csv {
		categories[item.Category] = true
		data, err := pictures.Append(nil, item)
		if err != nil {
			t.Error(err)
			continue
		}
		im, kind, err := image.DecodeConfig(bytes.NewReader(data))
		if err != nil || kind != "jpeg" || im.Width != 224 || im.Height != 224 {
			t.Errorf("%s: %s of %dx%d, %v", item.Picture, kind, im.Width, im.Height, err)
		}
	}
	if len(csv) < 24 || len(categories) != len(csv) {
		t.Errorf("%d products of %d categories", len(csv), len(categories))
	}
}
