package event

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/go-json-experiment/json/jsontext"

	"aisle.dev/aisle/internal/problem"
	"aisle.dev/aisle/internal/serve"
)

// ContentTypeBatch is the media type of several events in one message, as a
// JSON array.
const ContentTypeBatch = "application/cloudevents-batch+json"

// MaxBatch bounds the events of one batch.
const MaxBatch = 10_000

// ReadAll is [Read] that accepts the batched mode too (CloudEvents HTTP
// binding 1.0, section 3.3): all events of a batch, or an error that says
// which one is wrong. Max bounds the body as a whole.
func ReadAll(w http.ResponseWriter, r *http.Request, max int64) ([]ce.Event, error) {
	if mt, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mt != ContentTypeBatch {
		ev, _, err := Read(w, r, max)
		return []ce.Event{ev}, err
	}
	body, err := serve.ReadBody(w, r, max)
	if err != nil {
		return nil, err
	}
	return DecodeBatch(body)
}

// DecodeBatch reads the events of a batch. Their data may share memory with
// body.
func DecodeBatch(body []byte) ([]ce.Event, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body))
	if t, err := dec.ReadToken(); err != nil || t.Kind() != jsontext.KindBeginArray {
		return nil, problem.New(http.StatusBadRequest, "the batch cannot be read: the body is not a JSON array")
	}
	header := http.Header{"Content-Type": {ContentType}}
	var all []ce.Event
	for dec.PeekKind() == jsontext.KindBeginObject {
		if len(all) == MaxBatch {
			return nil, problem.New(http.StatusRequestEntityTooLarge, "the batch has more than %d events; send it in parts", MaxBatch)
		}
		raw, err := dec.ReadValue()
		if err != nil {
			return nil, problem.New(http.StatusBadRequest, "event %d of the batch cannot be read: %s", len(all)+1, explain(err))
		}
		// The decoder may use raw's memory again; the body is ours, and holds
		// the same bytes.
		end := dec.InputOffset()
		ev, _, err := Decode(header, body[end-int64(len(raw)):end])
		if err != nil {
			return nil, problem.New(problem.Status(err), "event %d of the batch: %v", len(all)+1, err)
		}
		all = append(all, ev)
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, problem.New(http.StatusBadRequest, "the batch cannot be read: after event %d comes no other event: %s", len(all), explain(err))
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, problem.New(http.StatusBadRequest, "the batch cannot be read: there is text after its closing bracket")
	}
	return all, nil
}
