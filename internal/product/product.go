// Package product is the thing that Aisle categorises: its JSON form, its
// bounds, and which of its fields a classifier reads.
//
// [Decode] accepts what the published JSON Schema (see [Schema]) accepts, and
// null for a field that is not there; everything else is refused with a
// *problem.Error that says what is wrong. Nothing here fetches or decodes pictures.
package product

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"

	"aisle.dev/aisle/internal/problem"
)

// Bounds of one product. MaxBody bounds its JSON, decompressed.
const (
	MaxBody       = 16 << 20
	MaxID         = 256
	MaxTitle      = 4 << 10
	MaxText       = 64 << 10 // description
	MaxAttributes = 64
	MaxAttribute  = 1 << 10 // bytes of a brand, or of an attribute's name or value
	MaxImages     = 8
	MaxImage      = 10 << 20 // bytes of one encoded picture
	MaxURL        = 2 << 10  // bytes of the URL of one
)

//go:embed product.schema.json
var schema []byte

// Schema returns the JSON Schema (2020-12) of a product.
func Schema() []byte { return bytes.Clone(schema) }

// SchemaPath is where the composer serves [Schema].
const SchemaPath = "/schemas/product.v1.json"

// Product is what a shop knows of one of its products.
type Product struct {
	ID          string            `json:"id,omitempty"`
	Title       string            `json:"title,omitempty"`
	Description string            `json:"description,omitempty"`
	Brand       string            `json:"brand,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
	Images      []Image           `json:"images,omitempty"`
}

// Image is one picture: either its encoded bytes (base64 in JSON) or a URL.
type Image struct {
	URL  string `json:"url,omitempty"`
	Data []byte `json:"data,omitempty"`
}

// Asked is a product with what is asked about it, which is no part of it.
type Asked struct {
	Product
	Explain bool `json:"explain,omitempty"` // which of its words speak for the answer?
}

// Decode reads one product from JSON text. It refuses unknown fields,
// trailing data, invalid UTF-8, NUL characters, and whatever [Product.Validate]
// refuses.
func Decode(data []byte) (Product, error) {
	p, err := decode[Product](data)
	if err != nil {
		return Product{}, err
	}
	return p, p.Validate()
}

// DecodeAsked reads one product as [Decode] does, and what is asked about it.
func DecodeAsked(data []byte) (Asked, error) {
	a, err := decode[Asked](data)
	if err != nil {
		return Asked{}, err
	}
	return a, a.Validate()
}

func decode[T Product | Asked](data []byte) (T, error) {
	var p T
	if len(data) > MaxBody {
		return p, problem.New(http.StatusRequestEntityTooLarge, "the product is larger than %d bytes", MaxBody)
	}
	if !utf8.Valid(data) {
		return p, problem.New(http.StatusBadRequest, "the product is not valid UTF-8")
	}
	if err := jsonv2.Unmarshal(data, &p, jsonv2.RejectUnknownMembers(true)); err != nil {
		return p, problem.New(http.StatusBadRequest, "the product is not valid JSON of the product schema: %s", explain[T](data, err))
	}
	return p, nil
}

// explain words a refusal: as encoding/json does where that refuses too, since
// its errors name the field and the kind; else (a name twice, a name in other
// case) as json/v2 does.
func explain[T Product | Asked](data []byte, refusal error) string {
	var p T
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(&p)
	if err == nil {
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			return "there is text after the product's closing brace; send one product per request"
		}
		if _, text, ok := strings.Cut(refusal.Error(), ": "); ok {
			return text
		}
		return refusal.Error()
	}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Sprintf("%s must be %s, not a %s", cmp.Or(t.Field, "the product"), jsonKind(t.Type.Kind().String()), t.Value)
	}
	if errors.Is(err, io.EOF) {
		return "the body is empty"
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

func jsonKind(kind string) string {
	switch kind {
	case "struct", "map":
		return "an object"
	case "slice":
		return "an array or a base64 string"
	default:
		return "a " + kind
	}
}

// Validate checks the bounds, and that there is something to categorise: a
// title or an image. Its errors are *problem.Error with status 422 (413 for
// what is too large).
func (p Product) Validate() error {
	type text struct {
		name, value string
		max         int
	}
	texts := []text{{"id", p.ID, MaxID}, {"title", p.Title, MaxTitle}, {"description", p.Description, MaxText}, {"brand", p.Brand, MaxAttribute}}
	if len(p.Attributes) > MaxAttributes {
		return problem.New(http.StatusUnprocessableEntity, "the product has %d attributes; at most %d are read", len(p.Attributes), MaxAttributes)
	}
	for k, v := range p.Attributes {
		texts = append(texts, text{"an attribute's name", k, MaxAttribute}, text{fmt.Sprintf("attribute %.40q", k), v, MaxAttribute})
	}
	for _, t := range texts {
		switch {
		case len(t.value) > t.max:
			return problem.New(http.StatusRequestEntityTooLarge, "%s is %d bytes long; at most %d are accepted", t.name, len(t.value), t.max)
		case !utf8.ValidString(t.value):
			return problem.New(http.StatusUnprocessableEntity, "%s is not valid UTF-8", t.name)
		case strings.ContainsRune(t.value, 0):
			return problem.New(http.StatusUnprocessableEntity, "%s contains a NUL character", t.name)
		}
	}
	if len(p.Images) > MaxImages {
		return problem.New(http.StatusUnprocessableEntity, "the product has %d images; at most %d are accepted", len(p.Images), MaxImages)
	}
	for i, im := range p.Images {
		switch {
		case im.URL == "" && len(im.Data) == 0:
			return problem.New(http.StatusUnprocessableEntity, "images[%d] is empty; give it either data (base64) or a url", i)
		case im.URL != "" && len(im.Data) > 0:
			return problem.New(http.StatusUnprocessableEntity, "images[%d] has both data and a url; give it one of them", i)
		case len(im.Data) > MaxImage:
			return problem.New(http.StatusRequestEntityTooLarge, "images[%d] is %d bytes long; at most %d are accepted", i, len(im.Data), MaxImage)
		case len(im.URL) > MaxURL:
			return problem.New(http.StatusUnprocessableEntity, "images[%d].url is %d bytes long; at most %d are accepted", i, len(im.URL), MaxURL)
		}
	}
	if strings.TrimSpace(p.Title) == "" && len(p.Images) == 0 {
		return problem.New(http.StatusUnprocessableEntity, "the product has neither a title nor an image; there is nothing to categorise")
	}
	return nil
}

// IsField reports whether name is one that a reads list may hold: "title",
// "description", "brand", "images" or "attributes.NAME".
func IsField(name string) bool {
	switch name {
	case "title", "description", "brand", "images":
		return true
	}
	attribute, ok := strings.CutPrefix(name, "attributes.")
	return ok && attribute != ""
}

// Field returns the text of a field by the name that a model package's reads
// list gives it: "title", "description", "brand", or "attributes.NAME". It is
// empty for a field that the product does not have and for "images".
func (p Product) Field(name string) string {
	switch name {
	case "title":
		return p.Title
	case "description":
		return p.Description
	case "brand":
		return p.Brand
	}
	if k, ok := strings.CutPrefix(name, "attributes."); ok {
		return p.Attributes[k]
	}
	return ""
}

// Only returns the product with its id and the named fields, and nothing
// else: what a classifier that reads just these needs to be sent.
func (p Product) Only(fields []string) Product {
	q := Product{ID: p.ID}
	for _, f := range fields {
		switch f {
		case "title":
			q.Title = p.Title
		case "description":
			q.Description = p.Description
		case "brand":
			q.Brand = p.Brand
		case "images":
			q.Images = p.Images
		default:
			k, ok := strings.CutPrefix(f, "attributes.")
			v, has := p.Attributes[k]
			if !ok || !has {
				continue
			}
			if q.Attributes == nil {
				q.Attributes = map[string]string{}
			}
			q.Attributes[k] = v
		}
	}
	return q
}

// Bare returns the product without the bytes of its pictures; their URLs stay.
func (p Product) Bare() Product {
	p.Images = slices.DeleteFunc(slices.Clone(p.Images), func(i Image) bool { return i.URL == "" })
	return p
}

// With returns the product with the text of a field, named as for [Product.Field],
// replaced.
func (p Product) With(name, text string) Product {
	switch name {
	case "title":
		p.Title = text
	case "description":
		p.Description = text
	case "brand":
		p.Brand = text
	}
	if k, ok := strings.CutPrefix(name, "attributes."); ok {
		p.Attributes = maps.Clone(p.Attributes)
		p.Attributes[k] = text
	}
	return p
}

// Has reports whether the product has any of the named fields.
func (p Product) Has(fields []string) bool {
	return slices.ContainsFunc(fields, func(f string) bool {
		return f == "images" && len(p.Images) > 0 || strings.TrimSpace(p.Field(f)) != ""
	})
}
