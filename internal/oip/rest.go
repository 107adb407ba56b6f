package oip

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/problem"
)

// headerLength is how long the JSON is that precedes binary tensors.
const headerLength = "Inference-Header-Content-Length"

// rest answers below /v2, and names the route.
func (h *handler) rest(w http.ResponseWriter, r *http.Request) (route string, err error) {
	route = "v2/unknown"
	err = problem.Recover(func() error {
		var to func(http.ResponseWriter, *http.Request) error
		method := http.MethodGet
		route, method, to = h.routeREST(r.URL.EscapedPath())
		if to == nil {
			return problem.New(http.StatusNotFound, "there is nothing at %.200s; GET /v2/models/NAME says what a model takes, and POST /v2/models/NAME/infer runs it", r.URL.Path)
		}
		if r.Method != method && !(method == http.MethodGet && r.Method == http.MethodHead) {
			w.Header().Set("Allow", method)
			return problem.New(http.StatusMethodNotAllowed, "%.200s takes %s", r.URL.Path, method)
		}
		return to(w, r)
	})
	if err != nil {
		body, werr := jsonv2.Marshal(map[string]string{"error": problem.Detail(err)}, jsontext.AllowInvalidUTF8(true))
		if werr != nil {
			return route, errors.Join(err, werr)
		}
		problem.RetryAfter(w.Header(), err)
		writeBody(w, problem.Status(err), "application/json", body)
	}
	return route, err
}

// routeREST finds what answers at the path. The names of routes are few, and
// hold nothing of the request.
func (h *handler) routeREST(path string) (route, method string, to func(http.ResponseWriter, *http.Request) error) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, p := range parts {
		var err error
		if parts[i], err = url.PathUnescape(p); err != nil {
			return "v2/unknown", "", nil
		}
	}
	switch {
	case len(parts) == 1:
		return "v2", http.MethodGet, h.serverMetadata
	case len(parts) == 3 && parts[1] == "health" && parts[2] == "live":
		return "v2/health/live", http.MethodGet, func(w http.ResponseWriter, _ *http.Request) error {
			return writeJSON(w, map[string]bool{"live": true})
		}
	case len(parts) == 3 && parts[1] == "health" && parts[2] == "ready":
		return "v2/health/ready", http.MethodGet, func(w http.ResponseWriter, _ *http.Request) error {
			if err := h.ready(); err != nil {
				return notReady(err)
			}
			return writeJSON(w, map[string]bool{"ready": true})
		}
	case len(parts) < 3 || parts[1] != "models":
		return "v2/unknown", "", nil
	}
	name, version, rest := parts[2], "", parts[3:]
	if len(rest) >= 2 && rest[0] == "versions" && rest[1] != "" {
		version, rest = rest[1], rest[2:]
	}
	// Found first: an unknown model is told of before its body is read.
	with := func(f func(http.ResponseWriter, *http.Request, Model, Description) error) func(http.ResponseWriter, *http.Request) error {
		return func(w http.ResponseWriter, r *http.Request) error {
			m, d, err := h.find(name, version)
			if err != nil {
				return err
			}
			return f(w, r, m, d)
		}
	}
	switch strings.Join(rest, "/") {
	case "":
		return "v2/models", http.MethodGet, with(modelMetadata)
	case "ready":
		return "v2/models/ready", http.MethodGet, with(modelReady)
	case "infer":
		return "v2/models/infer", http.MethodPost, with(h.inferREST)
	}
	return "v2/unknown", "", nil
}

// notReady is a 400: the protocol wants a status of the 4xx for no.
func notReady(err error) error {
	return problem.New(http.StatusBadRequest, "not ready: %s", problem.Detail(err))
}

func (h *handler) serverMetadata(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, struct {
		Name       string   `json:"name"`
		Version    string   `json:"version"`
		Extensions []string `json:"extensions"`
	}{serverName, h.options.Version, extensions})
}

func modelReady(w http.ResponseWriter, _ *http.Request, m Model, d Description) error {
	if err := m.Ready(); err != nil {
		return notReady(err)
	}
	return writeJSON(w, struct {
		Name  string `json:"name"`
		Ready bool   `json:"ready"`
	}{d.Name, true})
}

func modelMetadata(w http.ResponseWriter, _ *http.Request, _ Model, d Description) error {
	type port struct {
		Name     string  `json:"name"`
		Datatype string  `json:"datatype"`
		Shape    []int64 `json:"shape"`
	}
	ports := func(in []Port) []port {
		out := make([]port, len(in))
		for i, p := range in {
			out[i] = port(p)
		}
		return out
	}
	return writeJSON(w, struct {
		Name       string            `json:"name"`
		Versions   []string          `json:"versions"`
		Platform   string            `json:"platform"`
		Inputs     []port            `json:"inputs"`
		Outputs    []port            `json:"outputs"`
		Parameters map[string]string `json:"parameters,omitempty"`
	}{d.Name, d.Versions, d.Platform, ports(d.Inputs), ports(d.Outputs), d.Parameters})
}

func (h *handler) inferREST(w http.ResponseWriter, r *http.Request, m Model, d Description) error {
	release, err := h.options.Admit()
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), h.options.Timeout)
	defer cancel()
	body, done, err := h.read(w, r.WithContext(ctx), h.options.MaxBody)
	if err != nil {
		return err
	}
	defer done()
	c, binary, err := readREST(body, r.Header.Get(headerLength))
	if err != nil {
		return err
	}
	wanted, tensors, err := h.infer(ctx, m, d, c)
	if err != nil {
		return err
	}
	return writeREST(w, d, c.id, wanted, tensors, binary)
}

// readREST reads a request's JSON and, behind it, its binary tensors. jsonLength
// is what the header says of the JSON's length; empty means all. binary says
// of an output whether it is wanted in binary.
func readREST(body []byte, jsonLength string) (c call, binary func(name string) bool, err error) {
	var rest []byte
	if jsonLength != "" {
		n, err := strconv.ParseUint(jsonLength, 10, 63)
		if err != nil || n > uint64(len(body)) {
			return c, nil, refuse("%s is %.40q; want the length of the JSON at the beginning of the body's %d bytes", headerLength, jsonLength, len(body))
		}
		body, rest = body[:n], body[n:]
	}
	doc, err := decodeDocument(body)
	if err != nil {
		return c, nil, err
	}
	c.id = doc.ID
	if c.parameters, err = doc.Parameters.values(); err != nil {
		return c, nil, err
	}
	for _, in := range doc.Inputs {
		p, err := in.Parameters.values()
		if err != nil {
			return c, nil, err
		}
		if err := checkParameters(p); err != nil {
			return c, nil, err
		}
		var t onnx.Tensor
		switch size, ok := p["binary_data_size"]; {
		case ok && in.Data != nil:
			return c, nil, refuse("input %.80q has both data and binary_data_size", in.Name)
		case ok:
			n, isInt := size.(int64)
			if !isInt || n < 0 || n > int64(len(rest)) {
				return c, nil, refuse("input %.80q says binary_data_size %v; %d bytes are left behind the JSON", in.Name, size, len(rest))
			}
			t, err = fromBinary(in.Datatype, in.Shape, rest[:n])
			rest = rest[n:]
		case in.Data == nil:
			return c, nil, refuse("input %.80q has no data (nor a binary_data_size)", in.Name)
		default:
			t, err = fromJSON(in.Datatype, in.Shape, in.Data)
		}
		if err != nil {
			return c, nil, refuse("input %.80q: %s", in.Name, err)
		}
		c.inputs = append(c.inputs, input{name: in.Name, tensor: t})
	}
	if len(rest) > 0 {
		return c, nil, refuse("%d bytes are left behind the inputs' binary data", len(rest))
	}
	all, _ := c.parameters["binary_data_output"].(bool)
	each := make(map[string]bool, len(doc.Outputs))
	for _, out := range doc.Outputs {
		p, err := out.Parameters.values()
		if err != nil {
			return c, nil, err
		}
		if err := checkParameters(p); err != nil {
			return c, nil, err
		}
		each[out.Name] = all
		if own, ok := p["binary_data"].(bool); ok {
			each[out.Name] = own
		}
		c.outputs = append(c.outputs, out.Name)
	}
	return c, func(name string) bool {
		own, asked := each[name]
		return asked && own || !asked && all
	}, nil
}

func checkParameters(p map[string]any) error {
	for name := range p {
		if unsupported(name) {
			return refuse("the parameter %.80s is not supported here", name)
		}
	}
	return nil
}

// writeREST writes the JSON, and behind it what is wanted in binary.
func writeREST(w http.ResponseWriter, d Description, id string, wanted []int, tensors []onnx.Tensor, binary func(string) bool) error {
	b := quoted([]byte(`{"model_name":`), d.Name)
	b = append(b, `,"model_version":`...)
	b = quoted(b, version(d))
	if id != "" {
		b = append(b, `,"id":`...)
		b = quoted(b, id)
	}
	b = append(b, `,"outputs":[`...)
	var raw []int
	for i, t := range tensors {
		p := d.Outputs[wanted[i]]
		if i > 0 {
			b = append(b, ',')
		}
		b = quoted(append(b, `{"name":`...), p.Name)
		b = quoted(append(b, `,"datatype":`...), t.Type())
		b = append(b, `,"shape":[`...)
		for j, n := range t.Shape {
			if j > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, n, 10)
		}
		if binary(p.Name) {
			raw = append(raw, i)
			b = fmt.Appendf(b, `],"parameters":{"binary_data_size":%d}}`, binarySize(t))
			continue
		}
		b = append(b, `],"data":`...)
		var err error
		if b, err = appendJSON(b, t); err != nil {
			return problem.New(http.StatusUnprocessableEntity, "output %q: %s; ask for it with the parameter binary_data, or leave it out", p.Name, err)
		}
		b = append(b, '}')
	}
	b = append(b, `]}`...)
	if raw == nil {
		writeBody(w, http.StatusOK, "application/json", b)
		return nil
	}
	w.Header().Set(headerLength, strconv.Itoa(len(b)))
	for _, i := range raw {
		b = appendBinary(b, tensors[i])
	}
	writeBody(w, http.StatusOK, "application/octet-stream", b)
	return nil
}

// version is the one that answers.
func version(d Description) string {
	if len(d.Versions) == 0 {
		return ""
	}
	return d.Versions[0]
}

// quoted appends a name. What is not UTF-8 in it becomes U+FFFD.
func quoted(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s) // its only error is about UTF-8
	return b
}

func writeJSON(w http.ResponseWriter, v any) error {
	body, err := jsonv2.Marshal(v, jsonv2.Deterministic(true))
	if err != nil {
		return fmt.Errorf("write an answer: %w", err)
	}
	writeBody(w, http.StatusOK, "application/json", body)
	return nil
}

func writeBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone; there is nobody left to tell
}
