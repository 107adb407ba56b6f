package compose

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"aisle.dev/aisle/internal/product"
)

// reads is what is known of the fields that a leg reads: the union of all
// that its answers have declared, and what the composition declares until the
// first of them. A union, since two revisions of a service may answer in turn
// and read different fields.
type reads struct {
	declared []string                 // by the composition; nil: not at all
	learned  atomic.Pointer[[]string] // sorted; nil: no answer yet
}

func (r *reads) known() []string {
	if p := r.learned.Load(); p != nil {
		return *p
	}
	return r.declared
}

// learn adds fields to what the answers have declared.
func (r *reads) learn(fields []string) {
	for {
		old := r.learned.Load()
		var now []string
		if old != nil {
			now = *old
		}
		union := slices.Clone(now)
		for _, f := range fields {
			if !slices.Contains(union, f) {
				union = append(union, f)
			}
		}
		if len(union) == len(now) || len(union) > maxReads {
			return
		}
		slices.Sort(union)
		if r.learned.CompareAndSwap(old, &union) {
			return
		}
	}
}

const maxReads = 128

// parseReads reads an Aisle-Reads header. Anything that it does not
// understand makes it nil: the leg then goes on being sent whole products.
func parseReads(header string) []string {
	if header == "" || len(header) > 4<<10 {
		return nil
	}
	var out []string
	for f := range strings.SplitSeq(header, ",") {
		f = strings.TrimSpace(f)
		if !product.IsField(f) {
			return nil
		}
		out = append(out, f)
	}
	if len(out) > maxReads {
		return nil
	}
	return out
}

// payload is one request's body.
type payload struct {
	contentType string
	body        []byte
	fields      []string // what of the product is in it; nil: all
}

// payloadFor gives what to send of a product to a leg that reads fields (nil:
// not known). Whole is the product's JSON as it came, or nil.
func payloadFor(p product.Product, whole []byte, fields []string) (payload, error) {
	if fields == nil {
		if whole != nil {
			return payload{"application/json", whole, nil}, nil
		}
		body, err := json.Marshal(p)
		return payload{"application/json", body, nil}, err
	}
	if len(fields) == 1 && fields[0] == "images" && len(p.Images) == 1 {
		// A classifier takes one picture raw: no base64 on either side. Of
		// several it takes the first that it can read, and of a URL what it
		// fetches.
		if data := p.Images[0].Data; len(data) > 0 {
			if ct := http.DetectContentType(data); strings.HasPrefix(ct, "image/") {
				return payload{ct, data, fields}, nil
			}
		}
	}
	q := p.Only(fields)
	if strings.TrimSpace(q.Title) == "" && len(q.Images) == 0 {
		// A product must have a title or an image, also for a leg that reads
		// neither.
		if q.Title = p.Title; strings.TrimSpace(q.Title) == "" {
			q.Images = p.Images
		}
	}
	body, err := json.Marshal(q)
	return payload{"application/json", body, fields}, err
}

// keptBack returns the fields that a leg says it reads, that the product
// has, and that were not sent.
func keptBack(p product.Product, sent payload, declared []string) []string {
	if sent.fields == nil {
		return nil
	}
	var out []string
	for _, f := range declared {
		if !slices.Contains(sent.fields, f) && p.Has([]string{f}) {
			out = append(out, f)
		}
	}
	return out
}
