package event

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
)

const validEvent = `{"specversion":"1.0","id":"1","source":"/shop","type":"dev.aisle.product.v1","subject":"p1","time":"2026-01-02T03:04:05Z","dataschema":"https://aisle.dev/schemas/product.v1.json","datacontenttype":"application/json","traceparent":"00-a-b-01","count":3,"gift":true,"data":{"id":"p1","title":"red shirt"}}`

func binaryRequest(body string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	h := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/shop", "Ce-Type": TypeProduct, "Content-Type": "application/json"}
	for k, v := range h {
		r.Header.Set(k, v)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
		} else {
			r.Header.Add(headers[i], headers[i+1])
		}
	}
	return r
}

func structuredRequest(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", ContentType)
	return r
}

func TestReadBothModes(t *testing.T) {
	fromStructured, structured, err := Read(httptest.NewRecorder(), structuredRequest(validEvent), 1<<20)
	if err != nil || !structured {
		t.Fatalf("structured: %v, structured=%v", err, structured)
	}
	fromBinary, structured, err := Read(httptest.NewRecorder(), binaryRequest(`{"id":"p1","title":"red shirt"}`,
		"Ce-Subject", "p1", "Ce-Time", "2026-01-02T03:04:05Z", "Ce-Dataschema", SchemaProduct,
		"Ce-Traceparent", "00-a-b-01", "Ce-Count", "3", "Ce-Gift", "true"), 1<<20)
	if err != nil || structured {
		t.Fatalf("binary: %v, structured=%v", err, structured)
	}
	for name, ev := range map[string]ce.Event{"structured": fromStructured, "binary": fromBinary} {
		p, err := Product(ev)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(product.Product{ID: "p1", Title: "red shirt"}, p); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if ev.Subject() != "p1" || ev.Time().Unix() != 1767323045 || ev.Extensions()["traceparent"] != "00-a-b-01" {
			t.Errorf("%s: lost an attribute: %v", name, ev)
		}
	}
	if got := fromStructured.Extensions()["count"]; got != int32(3) {
		t.Errorf("structured keeps an integer's type: got %T", got)
	}
}

func TestReadRefuses(t *testing.T) {
	cut := func(old, new string) *http.Request {
		return structuredRequest(strings.Replace(validEvent, old, new, 1))
	}
	tests := []struct {
		name   string
		r      *http.Request
		status int
		says   string
	}{
		{"plain json", httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}")), 400, "specversion"},
		{"empty structured", structuredRequest(""), 400, "not a JSON object"},
		{"array", structuredRequest("[" + validEvent + "]"), 400, "not a JSON object"},
		{"truncated", structuredRequest(validEvent[:60]), 400, "ends too early"},
		{"truncated in data", structuredRequest(validEvent[:len(validEvent)-5]), 400, "ends too early"},
		{"no closing brace", structuredRequest(validEvent[:len(validEvent)-1]), 400, "ends too early"},
		{"trailing text", structuredRequest(validEvent + "{}"), 400, "after its closing brace"},
		{"not utf-8", structuredRequest(strings.Replace(validEvent, "red", "\xff", 1)), 400, "UTF-8"},
		{"no id", cut(`"id":"1",`, ""), 400, "id is missing"},
		{"empty id", cut(`"id":"1"`, `"id":" "`), 400, "id is empty"},
		{"null id", cut(`"id":"1"`, `"id":null`), 400, "id is missing"},
		{"number id", cut(`"id":"1"`, `"id":1`), 400, "id is not a string"},
		{"no source", cut(`"source":"/shop",`, ""), 400, "source is missing"},
		{"no type", cut(`"type":"dev.aisle.product.v1",`, ""), 400, "type is missing"},
		{"no specversion", cut(`"specversion":"1.0",`, ""), 400, "specversion is missing"},
		{"specversion 0.3", cut(`"1.0"`, `"0.3"`), 400, "specversion"},
		{"specversion 9", cut(`"1.0"`, `"9"`), 400, "specversion"},
		{"twice", cut(`"id":"1"`, `"id":"1","id":"2"`), 400, "twice"},
		{"data twice", cut(`"data":`, `"data":{},"data":`), 400, "twice"},
		{"both datas", cut(`"data":`, `"data_base64":"e30=","data":`), 400, "both"},
		{"data_base64 is a number", cut(`"data":{"id":"p1","title":"red shirt"}`, `"data_base64":5`), 400, "data_base64 is not a string"},
		{"data_base64 is not base64", cut(`"data":{"id":"p1","title":"red shirt"}`, `"data_base64":"?"`), 400, "not base64"},
		{"upper-case attribute", cut(`"count"`, `"Count"`), 400, "lower-case"},
		{"object attribute", cut(`"count":3`, `"count":{}`), 400, "object"},
		{"big number", cut(`"count":3`, `"count":3000000000`), 400, "32 bits"},
		{"fraction", cut(`"count":3`, `"count":1.5`), 400, "32 bits"},
		{"bad time", cut(`2026-01-02T03:04:05Z`, `yesterday`), 400, "RFC 3339"},
		{"bad source", cut(`/shop`, `:/ /%zz`), 400, "URI"},
		{"relative dataschema", cut(`https://aisle.dev/schemas/product.v1.json`, `x.json`), 400, "absolute"},
		{"control character", cut(`"p1"`, `"p\u0000"`), 400, "control"},
		{"text data that is not a string", cut(`application/json`, `text/plain`), 400, "JSON string"},
		{"bad datacontenttype", cut(`application/json`, `/`), 400, "media type"},
		{"long attribute", cut(`00-a-b-01`, strings.Repeat("a", MaxAttribute+1)), 400, "at most"},
		{"many attributes", cut(`"count":3`, manyAttributes()), 400, "more than"},
		{"too large", structuredRequest(strings.Replace(validEvent, "red", strings.Repeat("r", 1<<20), 1)), 413, "larger"},
		{"batch", contentType("application/cloudevents-batch+json"), 415, "one event per request"},
		{"xml", contentType("application/cloudevents+xml"), 415, "binary mode"},
		{"latin-1", contentType(ContentType + "; charset=latin1"), 415, "UTF-8"},
		{"no media type", contentType("nonsense/"), 415, "media type"},
		{"binary without id", binaryRequest("{}", "Ce-Id", ""), 400, "id is missing"},
		{"binary without specversion", binaryRequest("{}", "Ce-Specversion", ""), 400, "specversion"},
		{"binary with two ids", binaryRequest("{}", "Ce-Id", "2"), 400, "there 2 times"},
		{"binary with a dash", binaryRequest("{}", "Ce-A-B", "2"), 400, "lower-case"},
		{"binary with datacontenttype", binaryRequest("{}", "Ce-Datacontenttype", "a/b"), 400, "Content-Type"},
		{"binary with bad utf-8", binaryRequest("{}", "Ce-Subject", "%FF"), 400, "UTF-8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := Read(httptest.NewRecorder(), tt.r, 1<<20)
			if err == nil {
				t.Fatal("accepted")
			}
			if got := problem.Status(err); got != tt.status || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("status %d: %v\nwant %d and %q", got, err, tt.status, tt.says)
			}
		})
	}
}

func manyAttributes() string {
	var s []string
	for i := range MaxAttributes {
		s = append(s, `"x`+strings.Repeat("i", i+1)+`":1`)
	}
	return strings.Join(s, ",")
}

func contentType(ct string) *http.Request {
	r := structuredRequest(validEvent)
	r.Header.Set("Content-Type", ct)
	return r
}

func TestProductRefuses(t *testing.T) {
	tests := []struct {
		name   string
		r      *http.Request
		status int
	}{
		{"other type", binaryRequest(`{"title":"x"}`, "Ce-Type", "", "Ce-Type", TypeCategory), 400},
		{"other schema", binaryRequest(`{"title":"x"}`, "Ce-Dataschema", "https://example.com/x"), 400},
		{"not json", binaryRequest(`title: x`, "Content-Type", "", "Content-Type", "application/yaml"), 415},
		{"no data", binaryRequest(``), 400},
		{"nothing in it", binaryRequest(`{"id":"1"}`), 422},
		{"unknown field", binaryRequest(`{"title":"x","colour":"red"}`), 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ev, _, err := Read(httptest.NewRecorder(), tt.r, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Product(ev)
			if got := problem.Status(err); err == nil || got != tt.status {
				t.Errorf("got %v (%d), want %d", err, got, tt.status)
			}
		})
	}
}

func TestData(t *testing.T) {
	for name, body := range map[string]string{
		"base64": `{"data_base64":"eyJ0aXRsZSI6IngifQ==","specversion":"1.0","id":"1","source":"/s","type":"dev.aisle.product.v1"}`,
		// {"title":"x","id":"???"}
		"base64, escaped":      `{"data_base64":"eyJ0aXRsZSI6IngiLCJpZCI6Ij8\/PyJ9","specversion":"1.0","id":"1","source":"\/s","type":"dev.aisle.product.v1"}`,
		"data before the rest": `{"data":{"title":"x"},"specversion":"1.0","id":"1","source":"/s","type":"dev.aisle.product.v1"}`,
		"other json type":      `{"datacontenttype":"application/vnd.shop+json","data":{"title":"x"},"specversion":"1.0","id":"1","source":"/s","type":"dev.aisle.product.v1"}`,
	} {
		t.Run(name, func(t *testing.T) {
			ev, _, err := Read(httptest.NewRecorder(), structuredRequest(body), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if p, err := Product(ev); err != nil || p.Title != "x" {
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
}

// What a sender wrote is what a reader gets, in both modes, whatever the
// attributes hold.
func TestRoundTrip(t *testing.T) {
	text := rapid.StringMatching(`[ -~äöü€"%\\,;=日本]{1,20}`).Filter(func(s string) bool { return strings.TrimSpace(s) != "" })
	rapid.Check(t, func(t *rapid.T) {
		ev, err := NewProduct("/shop/"+rapid.StringMatching(`[a-z0-9]{0,8}`).Draw(t, "source"), text.Draw(t, "id"),
			product.Product{ID: text.Draw(t, "product"), Title: text.Draw(t, "title")})
		if err != nil {
			t.Fatal(err)
		}
		ev.SetExtension("causationid", text.Draw(t, "extension"))
		structured := rapid.Bool().Draw(t, "structured")
		w := httptest.NewRecorder()
		if err := Write(w, ev, structured); err != nil {
			t.Fatal(err)
		}
		got, gotStructured, err := Decode(w.Header(), w.Body.Bytes())
		if err != nil || gotStructured != structured {
			t.Fatalf("read back: %v, structured %v", err, gotStructured)
		}
		if diff := cmp.Diff(ev.String(), got.String()); diff != "" {
			t.Fatal(diff)
		}
		if !bytes.Equal(ev.Data(), got.Data()) {
			t.Fatalf("data %s, was %s", got.Data(), ev.Data())
		}
	})
}

func TestWriteRefusesAnIncompleteEvent(t *testing.T) {
	w := httptest.NewRecorder()
	if err := Write(w, ce.New(), true); err == nil {
		t.Error("accepted")
	}
	if w.Body.Len() > 0 || len(w.Header()) > 0 {
		t.Errorf("wrote %v %s before it refused", w.Header(), w.Body)
	}
	if _, err := New(TypeProduct, "/s", "", "", 1); err == nil {
		t.Error("New accepts an empty id")
	}
}

func TestIDDependsOnTheBoundariesBetweenParts(t *testing.T) {
	if ID("ab", "c") == ID("a", "bc") || ID("a") == ID("a", "") {
		t.Error("two different lists of parts have one id")
	}
	if again := ID("a", "b"); ID("a", "b") != again || len(ID()) != 32 {
		t.Error("an id is not stable")
	}
}

// Read never panics, refuses with a 4xx, and what it accepts can be written
// and read back in both modes.
func FuzzRead(f *testing.F) {
	f.Add(true, "", "", "", "", []byte(validEvent))
	f.Add(false, "1", "/shop", TypeProduct, "application/json", []byte(`{"title":"x"}`))
	f.Add(true, "", "", "", "", []byte(`{"data_base64":5,"specversion":"1.0"}`))
	f.Add(false, `"a\"b"`, "%41%", "%zz", "text/plain", []byte{0xff})
	f.Fuzz(func(t *testing.T, structured bool, id, source, typ, ct string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		if structured {
			r.Header.Set("Content-Type", ContentType)
		} else {
			r.Header = http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {id}, "Ce-Source": {source}, "Ce-Type": {typ}, "Content-Type": {ct}}
		}
		ev, gotStructured, err := Read(httptest.NewRecorder(), r, 1<<16)
		if err != nil {
			if s := problem.Status(err); s != 400 && s != 413 && s != 415 {
				t.Fatalf("status %d: %v", s, err)
			}
			return
		}
		if structured && !gotStructured {
			t.Fatal("the mode is wrong")
		}
		if _, err := Product(ev); err != nil {
			if _, ok := errors.AsType[*problem.Error](err); !ok {
				t.Fatalf("not a problem: %v", err)
			}
		}
		for _, structured := range []bool{true, false} {
			if !structured && ev.DataContentType() == ContentType {
				continue // binary mode cannot carry an event as data
			}
			h, body, err := Encode(ev, structured)
			if err != nil {
				t.Fatalf("cannot be written: %v", err)
			}
			back, _, err := Decode(h, body)
			if err != nil {
				t.Fatalf("cannot be read back (structured %v): %v\n%v\n%s", structured, err, h, body)
			}
			if back.ID() != ev.ID() || back.Source() != ev.Source() || back.Type() != ev.Type() || !bytes.Equal(bytes.TrimSpace(back.Data()), bytes.TrimSpace(ev.Data())) {
				t.Fatalf("structured %v: %v became %v", structured, ev, back)
			}
		}
	})
}
