// Package openapi is the OpenAPI 3.1 document of the classifier's HTTP
// interface: the product API, CloudEvents, the Open Inference Protocol's REST,
// health, metrics, and the document itself.
//
// The schemas of products and predictions in it are internal/product's and
// internal/prediction's own. Tests hold the document to what a classifier
// answers, and each of its routes to the document; hack/openapi lints it.
//
// Non-goals: the composer's interface, gRPC (its service is published as
// protocol buffers), requests checked by the document.
package openapi

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"

	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/product"
)

// Path is where a classifier serves [Document].
const Path = "/openapi.json"

//go:embed openapi.json
var frame []byte // all but the schemas of other packages

var document = sync.OnceValues(func() ([]byte, error) {
	var doc map[string]any
	if err := json.Unmarshal(frame, &doc); err != nil {
		return nil, fmt.Errorf("openapi.json: %w", err)
	}
	result, err := component(prediction.Schema())
	if err != nil {
		return nil, fmt.Errorf("prediction's schema: %w", err)
	}
	plain, err := component(product.Schema())
	if err != nil {
		return nil, fmt.Errorf("product's schema: %w", err)
	}
	asked, err := component(product.Schema()) // a product, and what is asked about it: see product.Asked
	if err != nil {
		return nil, fmt.Errorf("product's schema: %w", err)
	}
	asked["properties"].(map[string]any)["explain"] = map[string]any{"type": "boolean", "default": false, "description": "Whether the answer says which words spoke most for it."}
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	schemas["Product"], schemas["AskedProduct"], schemas["Result"] = plain, asked, result

	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err = e.Encode(doc)
	return b.Bytes(), err
})

// Document returns the document as JSON. It must not be changed. An error is
// a mistake in what is embedded, which tests would have found.
func Document() ([]byte, error) { return document() }

// component is a schema as a part of the document: its own address and
// dialect are the document's then.
func component(schema []byte) (map[string]any, error) {
	var s map[string]any
	if err := json.Unmarshal(schema, &s); err != nil {
		return nil, err
	}
	delete(s, "$id")
	delete(s, "$schema")
	return s, nil
}
