package acceptance

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/category"
)

// Products in bulk, through the place's whole way in: an array, lines, and a
// Heureka feed in gzip. What is wrong with one product is told in its place, and
// what is no feed is refused.
func TestBulk(t *testing.T) {
	t.Parallel()
	c := call(t, products.get(t))
	type line struct {
		category.Result
		Line  int
		Error struct {
			Status int
			Detail string
			ID     string
		}
	}
	const watch, bad = `{"id":"1","title":"Women Silver Wrist Watch"}`, `{"id":"2","title":" "}`
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, `<?xml version="1.0" encoding="utf-8"?><SHOP>
<SHOPITEM><ITEM_ID>1</ITEM_ID><PRODUCTNAME>Women Silver Wrist Watch</PRODUCTNAME></SHOPITEM>
<SHOPITEM><ITEM_ID>2</ITEM_ID></SHOPITEM>
<SHOPITEM><ITEM_ID>3</ITEM_ID><PRODUCTNAME>Women Silver Wrist Watch</PRODUCTNAME></SHOPITEM>
</SHOP>`)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, path, contentType, body string
		array                         bool
	}{
		{"an array", "/category/predict", "application/json", "[" + watch + "," + bad + "," + strings.Replace(watch, "1", "3", 1) + "]", true},
		{"lines", "/category/predict", "application/x-ndjson", watch + "\n" + bad + "\n" + strings.Replace(watch, "1", "3", 1) + "\n", false},
		{"a feed", "/v1/feeds", "application/octet-stream", packed.String(), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			await(t, "an answer to each product", func() string {
				a := c.post(t, "composer", tt.path, tt.contentType, tt.body)
				if a.err != nil || a.status != http.StatusOK {
					return fmt.Sprintf("%+v", a)
				}
				var got []line
				if tt.array {
					if err := json.Unmarshal([]byte(a.body), &got); err != nil {
						t.Fatalf("%s: %v", a.body, err)
					}
				} else {
					for text := range strings.Lines(a.body) {
						var l line
						if err := json.Unmarshal([]byte(text), &l); err != nil {
							t.Fatalf("%s: %v", text, err)
						}
						got = append(got, l)
					}
				}
				if len(got) != 3 || got[1].Error.Status/100 != 4 || got[1].Error.Detail == "" {
					t.Fatalf("answered %s", a.body)
				}
				for _, i := range []int{0, 2} {
					if got[i].Category == nil || got[i].Category.Label != "Watches" || got[i].ID != fmt.Sprint(i+1) {
						return a.body // on a busy machine a leg may come later than the deadline
					}
				}
				return ""
			})
		})
	}
	for name, body := range map[string]string{"no feed": "<html><body>Not Found</body></html>", "nothing": "", "entities of its own": "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><SHOP><SHOPITEM><PRODUCTNAME>&b;</PRODUCTNAME></SHOPITEM></SHOP>"} {
		t.Run(name, func(t *testing.T) {
			await(t, "a refusal", func() string {
				a := c.post(t, "composer", "/v1/feeds", "application/octet-stream", body)
				if a.err != nil || a.status/100 == 5 {
					return fmt.Sprintf("%+v", a)
				}
				if a.status/100 != 4 && !strings.Contains(a.body, `"error"`) || !strings.Contains(a.body, "detail") {
					t.Errorf("%d %s", a.status, a.body)
				}
				return ""
			})
		})
	}
}
