package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/go-json-experiment/json/jsontext"

	"aisle.dev/aisle/internal/problem"
)

// ContentType is the media type of an event in structured mode.
const ContentType = "application/cloudevents+json"

func bad(format string, args ...any) error {
	return problem.New(http.StatusBadRequest, "the event cannot be read: "+format, args...)
}

// mode tells binary from structured mode by the headers alone
// (CloudEvents HTTP binding 1.0, section 3).
func mode(h http.Header) (structured bool, err error) {
	ct := h.Get("Content-Type")
	mt, params, err := mime.ParseMediaType(ct)
	switch {
	case err != nil && ct != "":
		return false, problem.New(http.StatusUnsupportedMediaType, "the Content-Type %.80q is not a media type", ct)
	case mt == ContentType:
		if cs := params["charset"]; cs != "" && !strings.EqualFold(cs, "utf-8") {
			return false, problem.New(http.StatusUnsupportedMediaType, "the charset %.40q is not read; send UTF-8", cs)
		}
		return true, nil
	case strings.HasPrefix(mt, "application/cloudevents"):
		return false, problem.New(http.StatusUnsupportedMediaType, "%.80s is not read; send one event per request, in binary mode or as %s", mt, ContentType)
	case len(h["Ce-Specversion"]) == 0:
		return false, bad("there is no ce-specversion header; send an event in binary mode (ce-specversion, ce-id, ce-source, ce-type) or as %s", ContentType)
	}
	return false, nil
}

// Decode reads one event out of a message's headers and decompressed body.
// The data of the event may share memory with body.
func Decode(h http.Header, body []byte) (ev ce.Event, structured bool, err error) {
	if structured, err = mode(h); err != nil {
		return ev, false, err
	}
	b := builder{seen: map[string]bool{}}
	if structured {
		err = b.structured(body)
	} else {
		err = b.binary(h, body)
	}
	if err != nil {
		return ev, structured, err
	}
	for _, name := range []string{"specversion", "id", "source", "type"} {
		if !b.seen[name] {
			return ev, structured, bad("the attribute %s is missing", name)
		}
	}
	return ce.Event{Context: &b.attrs, DataEncoded: b.data, DataBase64: b.base64}, structured, nil
}

type builder struct {
	attrs  ce.EventContextV1
	seen   map[string]bool
	data   []byte
	base64 bool
}

func (b *builder) binary(h http.Header, body []byte) error {
	for name, values := range h {
		attr, ok := strings.CutPrefix(name, "Ce-")
		if !ok {
			continue
		}
		if len(values) > 1 {
			return bad("the header %.40s is there %d times", strings.ToLower(name), len(values))
		}
		v, err := unescape(values[0])
		if err != nil {
			return bad("the header %.40s: %v", strings.ToLower(name), err)
		}
		if err := b.set(strings.ToLower(attr), v); err != nil {
			return err
		}
	}
	if ct := h.Get("Content-Type"); strings.TrimSpace(ct) != "" {
		if b.seen["datacontenttype"] {
			return bad("ce-datacontenttype: in binary mode the Content-Type header says this")
		}
		if err := b.set("datacontenttype", strings.TrimSpace(ct)); err != nil {
			return err
		}
	}
	if len(body) > 0 {
		b.data = body
	}
	return nil
}

func (b *builder) structured(body []byte) error {
	if !utf8.Valid(body) {
		return bad("it is not valid UTF-8")
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(body))
	if t, err := dec.ReadToken(); err != nil || t.Kind() != jsontext.KindBeginObject {
		return bad("the body is not a JSON object")
	}
	var data, data64 jsontext.Value
	for dec.PeekKind() == jsontext.KindString {
		key, err := dec.ReadToken()
		if err != nil {
			return bad("%s", explain(err))
		}
		name := key.String()
		raw, err := dec.ReadValue()
		if err != nil {
			return bad("%s", explain(err))
		}
		switch name {
		case "data", "data_base64":
			// The decoder may use raw's memory again; the body is ours, and
			// holds the same bytes.
			end := dec.InputOffset()
			if own := jsontext.Value(body[end-int64(len(raw)) : end]); name == "data" {
				data = own
			} else {
				data64 = own
			}
			continue
		}
		v, err := value(raw)
		if err != nil {
			return bad("the attribute %.40q: %v", name, err)
		}
		if v == nil { // null means absent (JSON format 1.0, section 2.2)
			continue
		}
		if err := b.set(name, v); err != nil {
			return err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return bad("%s", explain(err))
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return bad("there is text after its closing brace; send one event per request")
	}
	return b.setData(data, data64)
}

func explain(err error) string {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "its JSON ends too early"
	case errors.Is(err, jsontext.ErrDuplicateName):
		return "an attribute is there twice"
	}
	return fmt.Sprintf("it is not valid JSON: %.200s", strings.TrimPrefix(err.Error(), "jsontext: "))
}

// setData follows CloudEvents JSON format 1.0, section 3.1.
func (b *builder) setData(data, data64 jsontext.Value) error {
	if string(data) == "null" {
		data = nil
	}
	if string(data64) == "null" {
		data64 = nil
	}
	switch {
	case data != nil && data64 != nil:
		return bad("it has both data and data_base64")
	case data64 != nil:
		if data64.Kind() != jsontext.KindString {
			return bad("data_base64 is not a string")
		}
		text := data64[1 : len(data64)-1]
		if bytes.IndexByte(text, '\\') >= 0 { // some write a slash as \/
			var err error
			if text, err = jsontext.AppendUnquote(nil, data64); err != nil {
				return bad("data_base64 is not a string")
			}
		}
		raw, err := base64.StdEncoding.AppendDecode(nil, text)
		if err != nil {
			return bad("data_base64 is not base64: %v", err)
		}
		b.data, b.base64 = raw, true
	case data != nil && !isJSON(b.attrs.GetDataContentType()):
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return bad("data of type %.80q must be a JSON string", b.attrs.GetDataContentType())
		}
		b.data = []byte(s)
	default:
		b.data = data
	}
	return nil
}

// value reads an attribute out of the JSON format: nil, a string, a bool or
// an int32.
func value(raw jsontext.Value) (any, error) {
	switch raw[0] {
	case 'n':
		return nil, nil
	case '"':
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err
	case 't', 'f':
		return raw[0] == 't', nil
	case '{', '[':
		return nil, errors.New("it is a JSON object or array; attributes are strings, integers or booleans")
	}
	n, err := strconv.ParseInt(string(raw), 10, 32)
	if err != nil {
		return nil, errors.New("it is not an integer of 32 bits")
	}
	return int32(n), nil
}

// set takes one attribute. V is a string, a bool or an int32.
func (b *builder) set(name string, v any) error {
	s, isString := v.(string)
	switch {
	case b.seen[name]:
		return bad("the attribute %.40q is there twice", name)
	case len(b.seen) == MaxAttributes:
		return bad("it has more than %d attributes", MaxAttributes)
	case !validName(name):
		return bad("%.40q is not an attribute's name: only lower-case letters and digits are", name)
	case len(s) > MaxAttribute:
		return bad("the attribute %.40q is %d bytes long; at most %d are accepted", name, len(s), MaxAttribute)
	case strings.ContainsFunc(s, isControl):
		return bad("the attribute %.40q contains a control character", name)
	}
	b.seen[name] = true
	switch name {
	case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema":
		if !isString {
			return bad("the attribute %s is not a string", name)
		}
		if strings.TrimSpace(s) == "" {
			return bad("the attribute %s is empty", name)
		}
	case "data":
		return bad("an attribute must not be called data")
	}
	var err error
	switch name {
	case "specversion":
		if s != ce.CloudEventsVersionV1 {
			return bad("specversion %.20q is not known; send %s", s, ce.CloudEventsVersionV1)
		}
	case "id":
		b.attrs.ID = s
	case "type":
		b.attrs.Type = s
	case "source":
		u := types.ParseURIRef(s)
		if u == nil || u.String() == "" { // "#" is the empty reference
			return bad("the source %.80q is not a URI reference", s)
		}
		b.attrs.Source = *u
	case "subject":
		b.attrs.Subject = &s
	case "time":
		t, perr := time.Parse(time.RFC3339Nano, s)
		if perr != nil {
			return bad("the time %.40q is not RFC 3339", s)
		}
		b.attrs.Time = &types.Timestamp{Time: t}
	case "datacontenttype":
		if _, _, perr := mime.ParseMediaType(s); perr != nil {
			return bad("the datacontenttype %.80q is not a media type", s)
		}
		b.attrs.DataContentType = &s
	case "dataschema":
		u := types.ParseURI(s)
		if u == nil || !u.Validate() {
			return bad("the dataschema %.80q is not an absolute URI", s)
		}
		b.attrs.DataSchema = u
	default:
		err = b.attrs.SetExtension(name, v)
	}
	if err != nil {
		return bad("the attribute %.40q: %v", name, err)
	}
	return nil
}

func validName(s string) bool {
	return s != "" && len(s) <= 256 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

func isControl(r rune) bool { return r < 0x20 || 0x7f <= r && r <= 0x9f }

// unescape undoes a quoted string, then one round of percent-encoding. A
// percent sign that starts no pair of hex digits stands for itself: senders
// that do not encode are common, Knative's among them.
func unescape(s string) (string, error) {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		var b strings.Builder
		for i := 1; i < len(s)-1; i++ {
			if s[i] == '\\' && i+1 < len(s)-1 {
				i++
			}
			b.WriteByte(s[i])
		}
		s = b.String()
	}
	if strings.IndexByte(s, '%') >= 0 {
		var b strings.Builder
		for i := 0; i < len(s); i++ {
			if s[i] == '%' && i+2 < len(s) {
				if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
					b.WriteByte(byte(c))
					i += 2
					continue
				}
			}
			b.WriteByte(s[i])
		}
		s = b.String()
	}
	if !utf8.ValidString(s) {
		return "", errors.New("it is not valid UTF-8 once percent-decoded")
	}
	return s, nil
}
