package main

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"mime"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"aisle.dev/aisle/internal/classify/classifytest"
	"aisle.dev/aisle/internal/openapi"
)

// documented is what the test reads of an OpenAPI document.
type documented struct {
	Paths map[string]map[string]struct {
		OperationID string
		Responses   map[string]struct {
			Ref     string `json:"$ref"`
			Content map[string]any
		}
	}
}

// TestDocument holds the OpenAPI document to a running classifier: what it
// says is answered, with bodies of its schemas, and no method is left out.
func TestDocument(t *testing.T) {
	base, client := started(t, map[string]string{"MODEL": classifytest.Title(t)})
	ask := func(method, path, contentType, body string) (*http.Response, []byte) {
		req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, data
	}
	_, text := ask(http.MethodGet, openapi.Path, "", "")
	var doc documented
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	schemas := jsonschema.NewCompiler()
	schemas.DefaultDraft(jsonschema.Draft2020)
	const at = "https://aisle.dev/openapi.json"
	if err := schemas.AddResource(at, whole); err != nil {
		t.Fatal(err)
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D", "+", "%2B").Replace
	concrete := strings.NewReplacer("{model}", "title", "{version}", "1.0.0").Replace

	product, event := `{"id":"p1","title":"steel watch"}`, func(data string) string {
		return `{"specversion":"1.0","id":"1","source":"/test","type":"dev.aisle.product.v1","data":` + data + `}`
	}
	tensors := `{"id":"7","inputs":[{"name":"ids","datatype":"INT32","shape":[1,2],"data":[1,2]},{"name":"weights","datatype":"FP32","shape":[1,2],"data":[1,0.5]}]}`
	type request struct{ query, contentType, body string }
	requests := map[string][]request{
		"event": {{"", "application/cloudevents+json", event(product)}, {"", "application/cloudevents+json", event("{}")}},
		"classify": {{"", "application/json", product}, {"?top=1&explain=true", "application/json", product}, {"?top=all", "application/json", "[" + product + ",{}]"},
			{"?top=none", "application/json", product}, {"", "application/json", "{"}, {"", "application/json", "{}"}, {"", "text/plain", "x"}},
		"infer":        {{"", "application/json", tensors}, {"", "application/json", `{"inputs":[]}`}},
		"inferVersion": {{"", "application/json", tensors}},
	}
	seen := map[string]bool{}
	for path, operations := range doc.Paths {
		// Of a method that nobody has, an answer says which there are.
		resp, _ := ask("BREW", concrete(path), "", "")
		methods := strings.Split(resp.Header.Get("Allow"), ", ")
		want := slices.Sorted(maps.Keys(operations))
		got := slices.DeleteFunc(methods, func(m string) bool { return m == http.MethodHead }) // wherever GET is
		for i := range got {
			got[i] = strings.ToLower(got[i])
		}
		slices.Sort(got)
		if path != "/metrics" && (resp.StatusCode != http.StatusMethodNotAllowed || !slices.Equal(got, want)) {
			t.Errorf("%s: %d, it takes %v; the document says %v", path, resp.StatusCode, got, want)
		}
		for method, op := range operations {
			seen[op.OperationID] = true
			all, ok := requests[op.OperationID]
			if !ok && method == "get" {
				all = []request{{}}
			}
			if len(all) == 0 {
				t.Errorf("%s: the test has no request for %s", path, op.OperationID)
			}
			for i, r := range all {
				resp, body := ask(strings.ToUpper(method), concrete(path)+r.query, r.contentType, r.body)
				code := strconv.Itoa(resp.StatusCode)
				if i == 0 && code != "200" {
					t.Errorf("%s %s: %s %s", method, path, code, body)
				}
				answer, ok := op.Responses[code]
				if !ok {
					t.Errorf("%s %s %s: %s is not in the document: %s", method, path, r.body, code, body)
					continue
				}
				kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
				if err != nil {
					t.Errorf("%s %s: %v", method, path, err)
				}
				ref := "#/paths/" + escape(path) + "/" + method + "/responses/" + code
				if answer.Ref != "" {
					ref = answer.Ref
				} else if _, ok := answer.Content[kind]; !ok {
					t.Errorf("%s %s: %s is not in the document", method, path, kind)
					continue
				}
				if !strings.HasSuffix(kind, "json") {
					continue
				}
				schema, err := schemas.Compile(at + ref + "/content/" + escape(kind) + "/schema")
				if err != nil {
					t.Errorf("%s %s: %v", method, path, err)
					continue
				}
				value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
				if err == nil {
					err = schema.Validate(value)
				}
				if err != nil {
					t.Errorf("%s %s: %s: %v", method, path, body, err)
				}
			}
		}
	}
	for op := range requests {
		if !seen[op] {
			t.Errorf("%s is not in the document", op)
		}
	}
}

// TestRoutesAreDocumented looks for paths that the handlers compare a
// request's with, and that the document has not.
func TestRoutesAreDocumented(t *testing.T) {
	text, err := openapi.Document()
	if err != nil {
		t.Fatal(err)
	}
	var doc documented
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	// The Open Inference Protocol's routes go by the names that metrics have:
	// its paths, less what varies in them.
	short := strings.NewReplacer("/{model}", "", "/versions/{version}", "").Replace
	known := map[string]bool{"v2/unknown": true}
	for path := range doc.Paths {
		known[path] = true
		if strings.HasPrefix(path, "/v2") {
			known[short(path)[1:]] = true
		}
	}
	internal := filepath.Join("..", "..", "internal")
	found := 0
	for _, file := range []string{"classify/http.go", "serve/serve.go", "serve/health.go", "oip/rest.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(internal, file), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			s, err := strconv.Unquote(lit.Value)
			if err != nil || strings.ContainsAny(s, " %") || !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "v2") || strings.HasPrefix(s, "/aisle/") {
				return true
			}
			found++
			if !known[s] {
				t.Errorf("%s: %q is not in the document", file, s)
			}
			return true
		})
	}
	if found < 10 {
		t.Errorf("only %d routes were found: have they moved?", found)
	}
}
