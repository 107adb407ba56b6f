package classify_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/classify/classifytest"
	"aisle.dev/aisle/internal/prediction"
)

// The Open Inference Protocol answers as the product API does, of the same
// queue: by products, and by the graph's own tensors.
func TestOpenInferenceProtocol(t *testing.T) {
	r := start(t, classifytest.Title(t), nil, nil)
	infer := func(model, body string) (int, map[string][]any) {
		t.Helper()
		got := r.do(t, "POST", "/v2/models/"+model+"/infer", "application/json", []byte(body))
		var answer struct {
			Outputs []struct {
				Name string
				Data []any
			}
		}
		if err := json.Unmarshal(got.body, &answer); err != nil {
			t.Fatalf("%d %s: %v", got.code, got.body, err)
		}
		if got.header.Get(prediction.HeaderReads) == "" {
			t.Error("an answer without " + prediction.HeaderReads)
		}
		outputs := map[string][]any{}
		for _, o := range answer.Outputs {
			outputs[o.Name] = o.Data
		}
		return got.code, outputs
	}
	title := `{"title":"steel watch"}`
	want := r.do(t, "POST", "/v1/classify", "application/json", []byte(title)).result(t)

	quoted, _ := json.Marshal(title)
	code, out := infer("title-products", fmt.Sprintf(`{"inputs":[{"name":"product","datatype":"BYTES","shape":[2],"data":[%s,%s]}],"parameters":{"top":2}}`, quoted, quoted))
	if code != 200 || len(out["label"]) != 4 || out["label"][2] != want.Top().Label || fmt.Sprintf("%.4f", out["probability"][2]) != fmt.Sprintf("%.4f", want.Top().Probability) {
		t.Errorf("%d %v, want %+v", code, out, want)
	}
	code, out = infer("title", `{"inputs":[{"name":"ids","datatype":"INT32","shape":[1,1],"data":[0]},{"name":"weights","datatype":"FP32","shape":[1,1],"data":[0]}]}`)
	if code != 200 || len(out["logits"]) != 3 {
		t.Errorf("%d %v", code, out)
	}

	// What the graph fails on, and a product that is refused, are the caller's.
	code, _ = infer("title", `{"inputs":[{"name":"ids","datatype":"INT32","shape":[1,1],"data":[99999999]},{"name":"weights","datatype":"FP32","shape":[1,1],"data":[0]}]}`)
	if code != 422 {
		t.Errorf("an id that is in no table: %d", code)
	}
	code, _ = infer("title-products", `{"inputs":[{"name":"product","datatype":"BYTES","shape":[1],"data":["{}"]}]}`)
	if code != 422 {
		t.Errorf("an empty product: %d", code)
	}
	body := string(r.do(t, "GET", "/metrics", "", nil).body)
	if !strings.Contains(body, `aisle_classifier_requests_total{code="200",route="v2/models/infer"} 2`) || !strings.Contains(body, `aisle_classifier_requests_total{code="422",route="v2/models/infer"} 2`) {
		t.Errorf("%s", body)
	}
}

// A model without preprocessing says where its tensors are served.
func TestProductsOfATensorModel(t *testing.T) {
	g := newGate()
	close(g.pass)
	r := start(t, classifytest.Tensors(t), g, nil)
	for _, path := range []string{"/v1/classify", "/"} {
		got := r.do(t, "POST", path, "application/json", []byte(`{"title":"shirt"}`))
		if got.code != 422 || !strings.Contains(string(got.body), "/v2/models/tensors") {
			t.Errorf("%s: %d %s", path, got.code, got.body)
		}
	}
	if got := r.do(t, "GET", "/", "", nil); got.code != 200 {
		t.Errorf("%d %s", got.code, got.body)
	}
}
