package feed

import (
	"bytes"
	"compress/gzip"
	"io"
	"slices"
	"strings"
	"testing"
)

// What a file is, and where its fields come from, is told before it is read.
func TestLayout(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, "sku;title;attributes.colour;x\n1;Ko\x9aile;red;\n")
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		text string
		opts Options
		want Layout
	}{
		"csv": {packed.String(), Options{Charset: "windows-1250", Columns: Columns{ID: "sku", Attributes: map[string]string{"more": "x"}}}, Layout{
			Packed: "gzip", Charset: "windows-1250", Format: CSV, Delimiter: ";",
			Mapping: []Mapping{{"id", "sku"}, {"title", "title"}, {"attributes.colour", "attributes.colour"}, {"attributes.more", "x"}}}},
		"ndjson": {"{\"title\": \"x\"}\n", Options{Columns: Columns{Title: "name"}}, Layout{
			Charset: "utf-8", Format: NDJSON,
			Mapping: []Mapping{{"id", "id"}, {"title", "name"}, {"description", "description"}, {"brand", "brand"}, {"images", "image"}, {"images", "images"}, {"attributes.*", "attributes"}}}},
		"xml": {"<SHOP><SHOPITEM/></SHOP>", Options{Columns: Columns{Title: "PRODUCT", Attributes: map[string]string{"a": "B"}}}, Layout{
			Charset: "utf-8", Format: XML,
			Mapping: []Mapping{{"id", "ITEM_ID"}, {"title", "PRODUCT"}, {"description", "DESCRIPTION"}, {"brand", "MANUFACTURER"}, {"images", "IMGURL"}, {"images", "IMGURL_ALTERNATIVE"}, {"category", "CATEGORYTEXT"},
				{"attributes.*", "PARAM"}, {"attributes.a", "B"}, {"attributes.category", "CATEGORYTEXT"}, {"attributes.ean", "EAN"}, {"attributes.isbn", "ISBN"}, {"attributes.productno", "PRODUCTNO"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := New(strings.NewReader(tt.text), tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			got := r.Layout()
			if !slices.Equal(got.Mapping, tt.want.Mapping) {
				t.Errorf("%v, want %v", got.Mapping, tt.want.Mapping)
			}
			got.Mapping, tt.want.Mapping = nil, nil
			if got.Packed != tt.want.Packed || got.Charset != tt.want.Charset || got.Format != tt.want.Format || got.Delimiter != tt.want.Delimiter {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}
