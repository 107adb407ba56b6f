package event

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// Encode gives the headers and the body of a message that carries ev, in
// structured or binary mode. An event that lacks what the specification
// requires is an error.
func Encode(ev ce.Event, structured bool) (http.Header, []byte, error) {
	if err := ev.Validate(); err != nil {
		return nil, nil, fmt.Errorf("encode event: %w", err)
	}
	attrs := map[string]string{"specversion": ev.SpecVersion(), "id": ev.ID(), "source": ev.Source(), "type": ev.Type()}
	for name, v := range map[string]string{"subject": ev.Subject(), "dataschema": ev.DataSchema()} {
		if v != "" {
			attrs[name] = v
		}
	}
	if t := ev.Time(); !t.IsZero() {
		attrs["time"] = types.FormatTime(t)
	}
	if structured {
		return encodeStructured(ev, attrs)
	}
	h := http.Header{"Content-Length": {strconv.Itoa(len(ev.Data()))}}
	for name, v := range ev.Extensions() {
		s, err := types.Format(v)
		if err != nil {
			return nil, nil, fmt.Errorf("encode event: extension %s: %w", name, err)
		}
		attrs[name] = s
	}
	for name, v := range attrs {
		h[textproto.CanonicalMIMEHeaderKey("ce-"+name)] = []string{escape(v)}
	}
	if ct := ev.DataContentType(); ct != "" {
		h.Set("Content-Type", ct)
	}
	return h, ev.Data(), nil
}

// encodeStructured is here because the SDK's marshaller writes data of a
// "+json" type as a string.
func encodeStructured(ev ce.Event, attrs map[string]string) (http.Header, []byte, error) {
	all := make(map[string]any, len(attrs)+4)
	for name, v := range attrs {
		all[name] = v
	}
	for name, v := range ev.Extensions() {
		switch v.(type) {
		case bool, int32, string:
			all[name] = v
		default:
			s, err := types.Format(v)
			if err != nil {
				return nil, nil, fmt.Errorf("encode event: extension %s: %w", name, err)
			}
			all[name] = s
		}
	}
	ct, data := ev.DataContentType(), ev.Data()
	if ct != "" {
		all["datacontenttype"] = ct
	}
	var raw []byte // what is appended as it is: the data is the bulk of the event
	switch {
	case len(data) == 0:
	case !ev.DataBase64 && isJSON(ct) && json.Valid(data):
		raw = data
	case !ev.DataBase64 && !isJSON(ct) && utf8.Valid(data):
		all["data"] = string(data)
	default:
		all["data_base64"] = data
	}
	body, err := json.Marshal(all)
	if err != nil {
		return nil, nil, fmt.Errorf("encode event: %w", err)
	}
	if raw != nil {
		body = slices.Concat(body[:len(body)-1], []byte(`,"data":`), raw, []byte{'}'})
	}
	return http.Header{"Content-Type": {ContentType}, "Content-Length": {strconv.Itoa(len(body))}}, body, nil
}

// escape percent-encodes what HTTP binding 1.0, section 3.1.3.2, wants
// encoded: space, double quote, percent, and all outside printable ASCII.
func escape(s string) string {
	plain := func(c byte) bool { return c > ' ' && c < 0x7f && c != '"' && c != '%' }
	var b strings.Builder
	for i := range len(s) {
		if plain(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}
