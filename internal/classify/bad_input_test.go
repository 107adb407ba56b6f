package classify_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/classify"
	"aisle.dev/aisle/internal/classify/classifytest"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/problem"
)

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bomb is gzip that expands to mb MB: members of a megabyte each, one after
// the other, since compressing all of it takes seconds.
func bomb(t testing.TB, mb int) []byte {
	return bytes.Repeat(zipped(t, make([]byte, 1<<20)), mb)
}

// hugePNG claims 30,000 x 30,000 pixels in its header.
func hugePNG() []byte {
	ihdr := append([]byte("IHDR"), 0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30, 8, 2, 0, 0, 0)
	b := append([]byte("\x89PNG\r\n\x1a\n"), 0, 0, 0, 13)
	b = append(b, ihdr...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(ihdr))
}

type badInput struct {
	name        string
	path        string // /v1/classify when empty
	method      string // POST when empty
	contentType string // application/json when empty
	headers     []string
	body        string
	status      int
	want        string // in the error
	kind        string // the problem's type, when it is not about:blank
}

func both() []badInput {
	event := func(without string, change ...string) []string {
		h := []string{}
		attrs := [][2]string{{"ce-specversion", "1.0"}, {"ce-id", "1"}, {"ce-source", "/shop"}, {"ce-type", "dev.aisle.product.v1"}}
		for _, a := range attrs {
			if a[0] != without {
				h = append(h, a[0], a[1])
			}
		}
		return append(h, change...)
	}
	good := `{"title":"a shirt"}`
	return []badInput{
		{name: "empty body", status: 400, want: "the body is empty"},
		{name: "not JSON", body: "title=shirt", status: 400, want: "not valid JSON"},
		{name: "JSON that ends early", body: `{"title":"a`, status: 400, want: "ends too early"},
		{name: "two products", body: good + good, status: 400, want: "one product per request"},
		{name: "an array that ends early", body: `[` + good, status: 400, want: "ends too early"},
		{name: "an array of too many", body: `[` + strings.Repeat(`1,`, classify.MaxProducts) + `1]`, status: 413, want: "more than 256 products"},
		{name: "an array to explain", path: "/v1/classify?explain=true", body: `[` + good + `]`, status: 422, want: "a request of its own"},
		{name: "explain of a wrong kind", path: "/v1/classify?explain=maybe", body: good, status: 400, want: "explain is"},
		{name: "explain of a wrong kind, in the body", body: `{"title":"a","explain":1}`, status: 400, want: "explain must be a bool"},
		{name: "a number", body: `7`, status: 400, want: "must be an object"},
		{name: "null", body: `null`, status: 422, want: "neither a title nor an image"},
		{name: "title of a wrong type", body: `{"title":7}`, status: 400, want: "title must be a string, not a number"},
		{name: "images of a wrong type", body: `{"images":"x"}`, status: 400, want: "images must be"},
		{name: "attribute of a wrong type", body: `{"title":"a","attributes":{"x":1}}`, status: 400, want: "must be a string"},
		{name: "unknown field", body: `{"title":"a","colour":"red"}`, status: 400, want: `unknown field "colour"`},
		{name: "neither title nor image", body: `{"id":"7"}`, status: 422, want: "neither a title nor an image"},
		{name: "blank title", body: `{"title":" \t "}`, status: 422, want: "neither a title nor an image"},
		{name: "title of 1 MB", body: `{"title":"` + strings.Repeat("x", 1<<20) + `"}`, status: 413, want: "title is 1048576 bytes long"},
		{name: "body of 20 MB", body: `{"title":"` + strings.Repeat("x", 20<<20) + `"}`, status: 413, want: "larger than"},
		{name: "invalid UTF-8", body: "{\"title\":\"\xff\xfe\"}", status: 400, want: "not valid UTF-8"},
		{name: "NUL", body: `{"title":"a\u0000b"}`, status: 422, want: "NUL"},
		{name: "raw NUL", body: "{\"title\":\"a\x00b\"}", status: 400, want: "not valid JSON"},
		{name: "not base64", body: `{"images":[{"data":"!!"}]}`, status: 400, want: "base64"},
		{name: "image with data and url", body: `{"images":[{"data":"aGk=","url":"http://x"}]}`, status: 422, want: "both data and a url"},
		{name: "empty image", body: `{"images":[{}]}`, status: 422, want: "images[0] is empty"},
		{name: "nine images", body: `{"images":[` + strings.Repeat(`{"data":"aGk="},`, 8) + `{"data":"aGk="}]}`, status: 422, want: "at most 8"},
		{name: "deeply nested", body: strings.Repeat(`[`, 100_000), status: 400, want: "not valid JSON"},
		{name: "deeply nested, not an array", body: strings.Repeat(`{"a":`, 100_000), status: 400, want: "the product is not valid JSON"},
		{name: "text", contentType: "text/plain", body: "a shirt", status: 415, want: "send a product as application/json, or a picture as image/*"},
		{name: "a form", contentType: "multipart/form-data; boundary=x", body: "--x--", status: 415, want: "Content-Type"},
		{name: "no media type", contentType: "@@@", body: good, status: 415, want: "Content-Type"},
		{name: "unknown coding", headers: []string{"Content-Encoding", "br"}, body: good, status: 415, want: "send the body plain, or with gzip or deflate"},
		{name: "not gzip", headers: []string{"Content-Encoding", "gzip"}, body: good, status: 400, want: "gzip"},
		{name: "top of a wrong kind", path: "/v1/classify?top=most", body: good, status: 400, want: "top is"},
		{name: "top below 1", path: "/v1/classify?top=0", body: good, status: 400, want: "top is"},
		{name: "unknown path", path: "/v1/classified", body: good, status: 404, want: "/v1/classify"},
		{name: "GET", path: "/v1/classify", method: "GET", status: 405, want: "POST"},
		{name: "DELETE", path: "/", method: "DELETE", status: 405, want: "GET, HEAD, POST"},

		{name: "event: none at all", path: "/", body: good, status: 400, want: "ce-specversion"},
		{name: "event: no id", path: "/", headers: event("ce-id"), body: good, status: 400, want: "id is missing"},
		{name: "event: no source", path: "/", headers: event("ce-source"), body: good, status: 400, want: "source is missing"},
		{name: "event: no type", path: "/", headers: event("ce-type"), body: good, status: 400, want: "type is missing"},
		{name: "event: unknown type", path: "/", headers: event("", "ce-type", "com.example.other"), body: good, status: 400, want: "only dev.aisle.product.v1"},
		{name: "event: its own reply", path: "/", headers: event("", "ce-type", "dev.aisle.prediction.v1"), body: good, status: 400, want: "only dev.aisle.product.v1"},
		{name: "event: unknown specversion", path: "/", headers: event("", "ce-specversion", "0.3"), body: good, status: 400, want: "specversion"},
		{name: "event: no data", path: "/", headers: event(""), status: 400, want: "no data"},
		{name: "event: data is not JSON", path: "/", headers: event(""), contentType: "text/xml", body: "<x/>", status: 415, want: "a product is application/json"},
		{name: "event: data is no product", path: "/", headers: event(""), body: `{"name":"x"}`, status: 400, want: "unknown field"},
		{name: "event: structured, broken", path: "/", contentType: "application/cloudevents+json", body: `{"specversion":"1.0"`, status: 400, want: "event"},
		{name: "event: structured, without id", path: "/", contentType: "application/cloudevents+json", body: `{"specversion":"1.0","type":"dev.aisle.product.v1","source":"/s","data":{"title":"a"}}`, status: 400, want: "id is missing"},
		{name: "event: batch", path: "/", contentType: "application/cloudevents-batch+json", body: `[]`, status: 415, want: "one event per request"},
		{name: "event: empty product", path: "/", headers: event(""), body: `{}`, status: 422, want: "neither a title nor an image"},
	}
}

func TestBadInput(t *testing.T) {
	titles := start(t, classifytest.Title(t), nil, nil)
	photos := start(t, classifytest.Photo(t), nil, nil)
	png := string(picture(t, red))
	inline := func(data string) string {
		return `{"images":[{"data":"` + base64.StdEncoding.EncodeToString([]byte(data)) + `"}]}`
	}
	gzipped := string(bomb(t, 64))
	for _, place := range []struct {
		name string
		r    *running
		more []badInput
	}{
		{"title", titles, []badInput{
			{name: "a picture alone", contentType: "image/png", body: png, status: 422, want: "this classifier reads no pictures", kind: problem.TypeNothingToRead},
			{name: "only an image", body: inline(png), status: 422, want: "none of the fields that this classifier reads", kind: problem.TypeNothingToRead},
			{name: "bomb", headers: []string{"Content-Encoding", "gzip"}, body: gzipped, status: 413, want: "decompressed"},
		}},
		{"photo", photos, []badInput{
			{name: "only a title", body: `{"title":"a shirt"}`, status: 422, want: "the product has no picture", kind: problem.TypeNothingToRead},
			{name: "image by URL", body: `{"images":[{"url":"https://example.com/x.jpg"}]}`, status: 422, want: "fetches no pictures by URL (FETCH=off); send the picture's bytes inline"},
			{name: "empty picture", contentType: "image/jpeg", status: 422, want: "the picture is empty"},
			{name: "truncated picture", contentType: "image/png", body: png[:len(png)/2], status: 422, want: "the PNG picture"},
			{name: "truncated, inline", body: inline(png[:len(png)/2]), status: 422, want: "the PNG picture"},
			{name: "text as a picture", contentType: "image/jpeg", body: "hello", status: 415, want: "send JPEG, PNG, GIF, WebP or BMP"},
			{name: "text, inline", body: inline("hello"), status: 415, want: "send JPEG, PNG, GIF, WebP or BMP"},
			{name: "30,000 x 30,000", contentType: "image/png", body: string(hugePNG()), status: 422, want: "30000x30000 pixels"},
			{name: "30,000 x 30,000, inline", body: inline(string(hugePNG())), status: 422, want: "30000x30000 pixels"},
			{name: "AVIF", contentType: "image/avif", body: "\x00\x00\x00\x20ftypavif\x00\x00\x00\x00avifmif1", status: 415, want: "AVIF pictures are not read"},
			{name: "SVG", contentType: "image/svg+xml", body: `<svg xmlns="http://www.w3.org/2000/svg"/>`, status: 415, want: "SVG pictures are not read"},
			{name: "TIFF", contentType: "image/tiff", body: "II*\x00\x08\x00\x00\x00", status: 415, want: "TIFF"},
			{name: "picture of 11 MB", contentType: "image/bmp", body: strings.Repeat("x", 11<<20), status: 413, want: "larger than"},
			{name: "bomb as a picture", contentType: "image/bmp", headers: []string{"Content-Encoding", "gzip"}, body: gzipped, status: 413, want: "decompressed"},
		}},
	} {
		for _, tt := range append(both(), place.more...) {
			t.Run(place.name+"/"+tt.name, func(t *testing.T) {
				method, path, ct := tt.method, tt.path, tt.contentType
				if method == "" {
					method = "POST"
				}
				if path == "" {
					path = "/v1/classify"
				}
				if ct == "" {
					ct = "application/json"
				}
				got := place.r.do(t, method, path, ct, []byte(tt.body), tt.headers...)
				check(t, got, tt)
			})
		}
		// After all of that it still answers, and nothing is left inside.
		if body := string(place.r.do(t, "GET", "/metrics", "", nil).body); !strings.Contains(body, "aisle_classifier_requests_inside 0") || strings.Contains(body, `code="5`) {
			t.Errorf("%s: %s", place.name, body)
		}
	}
	titles.do(t, "POST", "/v1/classify", "", []byte(`{"title":"shirt"}`)).result(t)
	photos.do(t, "POST", "/v1/classify", "image/png", []byte(png)).result(t)
}

func check(t *testing.T, got reply, tt badInput) {
	t.Helper()
	if got.code != tt.status {
		t.Fatalf("%d %s, want %d", got.code, got.body, tt.status)
	}
	if ct := got.header.Get("Content-Type"); ct != problem.ContentType {
		t.Errorf("Content-Type %q", ct)
	}
	if got.header.Get(prediction.HeaderReads) == "" {
		t.Errorf("a refusal without %s", prediction.HeaderReads)
	}
	var p struct {
		Type, Title, Detail, Error string
		Status                     int
	}
	if err := json.Unmarshal(got.body, &p); err != nil {
		t.Fatalf("%s: %v", got.body, err)
	}
	kind := tt.kind
	if kind == "" {
		kind = "about:blank"
	}
	if p.Error != p.Detail || p.Status != tt.status || p.Type != kind || p.Title != http.StatusText(tt.status) || !strings.Contains(p.Error, tt.want) {
		t.Errorf("%s; want type %s and %q in the error", got.body, kind, tt.want)
	}
}

// Eight bombs at once, each of half a gigabyte, cost what their limit allows.
func TestBombsAreBounded(t *testing.T) {
	r := start(t, classifytest.Title(t), nil, func(o *classify.Options) { o.MaxBody = 1 << 20 })
	half := bomb(t, 512)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	done := make(chan reply)
	for range 8 {
		go func() {
			done <- r.do(t, "POST", "/v1/classify", "application/json", half, "Content-Encoding", "gzip")
		}()
	}
	for range 8 {
		if got := <-done; got.code != 413 {
			t.Errorf("%d %s", got.code, got.body)
		}
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("8 bombs allocated %d MB", used>>20)
	}
}
