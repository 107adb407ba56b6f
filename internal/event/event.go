// Package event reads and writes CloudEvents 1.0 over HTTP, and holds what
// Aisle's functions agree on about them: types, schemas, ids.
//
// [Read] accepts one event in binary or in structured JSON mode, with a
// bounded body, and refuses everything else with a *problem.Error of status
// 400, 413 or 415 that says what is wrong: those are what Knative does not
// retry. [Write] replies in the mode of the request. What Read accepts, Write
// and Read give back unchanged. [ReadAll] accepts a batch of events too.
//
// Of the CloudEvents SDK only its event type is linked. Its HTTP binding has
// no body limit, does not percent-decode header values, panics on a number in
// data_base64, and brings a logger.
//
// Non-goals: writing batches, CloudEvents 0.3, formats other than JSON, sending with
// retries.
package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/product"
	"aisle.dev/aisle/internal/serve"
)

// The types of Aisle's events. A new major version is a new type.
const (
	TypeProduct    = "dev.aisle.product.v1"
	TypePrediction = "dev.aisle.prediction.v1"
	TypeCategory   = "dev.aisle.category.v1"
	TypeReview     = "dev.aisle.review.v1"   // a category that is less sure than its composition wants: somebody should look
	TypeReviewed   = "dev.aisle.reviewed.v1" // what somebody decided about that
	TypeScale      = "dev.aisle.scale.v1"    // sets bounds of a service
	TypeScaled     = "dev.aisle.scaled.v1"   // what that has led to
)

// What dataschema says in an event of the type: the $id of the published
// JSON Schema.
const (
	SchemaProduct  = "https://aisle.dev/schemas/product.v1.json"
	SchemaCategory = "https://aisle.dev/schemas/category.v1.json"
	SchemaReviewed = "https://aisle.dev/schemas/reviewed.v1.json"
)

// Bounds of one event's attributes. The data is bounded by Read's max.
const (
	MaxAttributes = 64      // extensions included
	MaxAttribute  = 4 << 10 // bytes of one attribute's value
)

// Read reads one event out of a request, whose body must not be larger than
// max bytes once decompressed. Structured says which mode it came in.
func Read(w http.ResponseWriter, r *http.Request, max int64) (ev ce.Event, structured bool, err error) {
	// The headers decide whether it is an event at all: do that before
	// reading a large body.
	if structured, err = mode(r.Header); err != nil {
		return ev, false, err
	}
	body, err := serve.ReadBody(w, r, max)
	if err != nil {
		return ev, structured, err
	}
	return Decode(r.Header, body)
}

// Write answers with ev, status 200, in structured or binary mode. When it
// returns an error, nothing has been written.
func Write(w http.ResponseWriter, ev ce.Event, structured bool) error {
	h, body, err := Encode(ev, structured)
	if err != nil {
		return err
	}
	for k, v := range h {
		w.Header()[k] = v
	}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // the client has gone; there is nobody left to tell
	return nil
}

// New returns an event with JSON data. Schema may be empty.
func New(typ, source, id, schema string, data any) (ce.Event, error) {
	ev := ce.New(ce.CloudEventsVersionV1)
	raw, err := json.Marshal(data)
	if err != nil {
		return ev, fmt.Errorf("data of a %s event: %w", typ, err)
	}
	ev.SetType(typ)
	ev.SetSource(source)
	ev.SetID(id)
	if schema != "" {
		ev.SetDataSchema(schema)
	}
	ev.SetDataContentType(ce.ApplicationJSON)
	ev.DataEncoded = raw
	if err := ev.Validate(); err != nil {
		return ev, fmt.Errorf("a %s event: %w", typ, err)
	}
	return ev, nil
}

// NewProduct returns a product event: its data is the product, its subject
// the product's id.
func NewProduct(source, id string, p product.Product) (ce.Event, error) {
	ev, err := New(TypeProduct, source, id, SchemaProduct, p)
	if err == nil && strings.TrimSpace(p.ID) != "" {
		ev.SetSubject(p.ID)
	}
	return ev, err
}

// Product reads the product out of a product event. An event of another
// type, or of another schema than the published one, is a 400; data that is
// not JSON is a 415.
func Product(ev ce.Event) (product.Product, error) {
	var none product.Product
	if ev.Type() != TypeProduct {
		return none, problem.New(http.StatusBadRequest, "the event's type is %.80q; only %s is accepted here", ev.Type(), TypeProduct)
	}
	if s := ev.DataSchema(); s != "" && s != SchemaProduct {
		return none, problem.New(http.StatusBadRequest, "the event's dataschema is %.200q; a product has %s", s, SchemaProduct)
	}
	if !isJSON(ev.DataContentType()) {
		return none, problem.New(http.StatusUnsupportedMediaType, "the event's data is %.80q; a product is application/json", ev.DataContentType())
	}
	if len(ev.Data()) == 0 {
		return none, problem.New(http.StatusBadRequest, "the event has no data; put the product there")
	}
	return product.Decode(ev.Data())
}

// ID returns an id that depends on all parts and on nothing else: 128 bits
// of SHA-256 over the parts, each preceded by its length.
func ID(parts ...string) string {
	h := sha256.New()
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// isJSON says whether a datacontenttype is JSON. An absent one is: the JSON
// format says so (CloudEvents JSON format 1.0, section 3.1).
func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	mt, _, err := mime.ParseMediaType(contentType)
	return err == nil && (mt == "application/json" || mt == "text/json" || strings.HasSuffix(mt, "+json"))
}
