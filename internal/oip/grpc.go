package oip

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"aisle.dev/aisle/internal/problem"
)

// The services, as their methods' paths begin.
const (
	inferenceService = "/inference.GRPCInferenceService/"
	healthService    = "/grpc.health.v1.Health/"
)

const grpcContentType = "application/grpc"

// smallMessage is what a message may have that names a model at most.
const smallMessage = 64 << 10

// Status codes of gRPC that are not the mapping's business.
const (
	grpcCancelled = 1
	grpcInternal  = 13
)

// isGRPC reports whether the request is a call of gRPC with messages in
// protocol buffers.
func isGRPC(r *http.Request) bool {
	ct := r.Header.Get("Content-Type")
	return ct == grpcContentType || ct == grpcContentType+"+proto"
}

// grpc answers a unary call over net/http's HTTP/2: one message in, one out,
// and the status in trailers
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
func (h *handler) grpc(w http.ResponseWriter, r *http.Request) (route string, err error) {
	route = "grpc/unknown"
	w.Header().Set("Content-Type", grpcContentType)
	err = problem.Recover(func() error {
		if r.ProtoMajor < 2 {
			return problem.New(http.StatusHTTPVersionNotSupported, "gRPC needs HTTP/2")
		}
		m, ok := h.method(r.URL.Path)
		if !ok {
			return problem.New(http.StatusNotImplemented, "the method %.200s is not served here", r.URL.Path)
		}
		route = "grpc/" + m.name
		if r.Method != http.MethodPost {
			return problem.New(http.StatusMethodNotAllowed, "gRPC calls are POSTs")
		}
		return h.call(w, r, m)
	})
	if err != nil && r.ProtoMajor < 2 {
		problem.Write(w, err)
		return route, err
	}
	// The trailers of a Go handler that has announced none.
	t := func(name, value string) { w.Header().Set(http.TrailerPrefix+name, value) }
	t("Grpc-Status", strconv.Itoa(grpcCode(err)))
	if err != nil {
		t("Grpc-Message", percentEncoded(problem.Detail(err)))
		if e, ok := errors.AsType[*problem.Error](err); ok && e.RetryAfter > 0 {
			t("Grpc-Retry-Pushback-Ms", strconv.FormatInt(e.RetryAfter.Milliseconds(), 10))
		}
	}
	return route, err
}

// method is one method of a service: it answers a message with another.
type method struct {
	name   string // in the route
	infers bool   // is admitted as an inference, with a message as large as one
	answer func(ctx context.Context, message []byte) ([]byte, error)
}

// method finds what answers at the path.
func (h *handler) method(path string) (method, bool) {
	switch path {
	case inferenceService + "ServerLive":
		return method{name: "ServerLive", answer: func(context.Context, []byte) ([]byte, error) {
			return boolMessage(true), nil
		}}, true
	case inferenceService + "ServerReady":
		return method{name: "ServerReady", answer: func(context.Context, []byte) ([]byte, error) {
			return boolMessage(h.ready() == nil), nil
		}}, true
	case inferenceService + "ServerMetadata":
		return method{name: "ServerMetadata", answer: func(context.Context, []byte) ([]byte, error) {
			return serverMetadataMessage(h.options.Version), nil
		}}, true
	case inferenceService + "ModelReady":
		return method{name: "ModelReady", answer: func(_ context.Context, message []byte) ([]byte, error) {
			m, _, err := h.named(message)
			if err != nil {
				return nil, err
			}
			return boolMessage(m.Ready() == nil), nil
		}}, true
	case inferenceService + "ModelMetadata":
		return method{name: "ModelMetadata", answer: func(_ context.Context, message []byte) ([]byte, error) {
			_, d, err := h.named(message)
			if err != nil {
				return nil, err
			}
			return modelMetadataMessage(d), nil
		}}, true
	case inferenceService + "ModelInfer":
		return method{name: "ModelInfer", infers: true, answer: h.inferGRPC}, true
	case healthService + "Check":
		return method{name: "Check", answer: h.check}, true
	}
	return method{}, false
}

// named finds the model that a message names in its first two fields.
func (h *handler) named(message []byte) (Model, Description, error) {
	name, version, err := readModelName(message)
	if err != nil {
		return nil, Description{}, err
	}
	return h.find(name, version)
}

// check is gRPC's own health check, which Kubernetes' probes make: of the
// whole server, or of the inference service.
func (h *handler) check(_ context.Context, message []byte) ([]byte, error) {
	service, _, err := readModelName(message) // its one field has the same number
	if err != nil {
		return nil, err
	}
	if service != "" && service != strings.Trim(inferenceService, "/") && service != strings.Trim(healthService, "/") {
		return nil, problem.New(http.StatusNotFound, "there is no service %.80q here", service)
	}
	const serving, notServing = 1, 2
	if h.ready() != nil {
		return appendUint(nil, 1, notServing), nil
	}
	return appendUint(nil, 1, serving), nil
}

func (h *handler) inferGRPC(ctx context.Context, message []byte) ([]byte, error) {
	q, err := readInferRequest(message)
	if err != nil {
		return nil, err
	}
	m, d, err := h.find(q.model, q.version)
	if err != nil {
		return nil, err
	}
	inputs, err := q.tensors()
	if err != nil {
		return nil, err
	}
	wanted, tensors, err := h.infer(ctx, m, d, call{id: q.id, parameters: q.parameters, inputs: inputs, outputs: q.outputs})
	if err != nil {
		return nil, err
	}
	return inferResponse(d, q.id, wanted, tensors), nil
}

// call reads the call's one message, and writes the answer's.
func (h *handler) call(w http.ResponseWriter, r *http.Request, m method) error {
	limit := int64(smallMessage)
	if m.infers {
		release, err := h.options.Admit()
		if err != nil {
			return err
		}
		defer release()
		limit = h.options.MaxBody
	}
	timeout, err := grpcTimeout(r.Header.Get("Grpc-Timeout"))
	if err != nil {
		return err
	}
	if timeout == 0 {
		timeout = h.options.Timeout
	}
	ctx, cancel := context.WithTimeout(r.Context(), min(timeout, h.options.Timeout))
	defer cancel()
	zip := false
	switch enc := r.Header.Get("Grpc-Encoding"); enc {
	case "", "identity":
	case "gzip":
		zip = true
	default:
		w.Header().Set("Grpc-Accept-Encoding", "gzip, identity")
		return problem.New(http.StatusNotImplemented, "messages compressed by %.40q are not understood; gzip is", enc)
	}
	message, compressed, done, err := h.message(w, r.WithContext(ctx), limit, zip)
	if err != nil {
		return err
	}
	defer done()
	answer, err := m.answer(ctx, message)
	if err != nil {
		return err
	}
	var prefix [5]byte
	if compressed { // as the caller does
		var b bytes.Buffer
		zw, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed) // a level that there is
		_, _ = zw.Write(answer)                          // to memory
		_ = zw.Close()
		answer, prefix[0] = b.Bytes(), 1
		w.Header().Set("Grpc-Encoding", "gzip")
	}
	binary.BigEndian.PutUint32(prefix[1:], uint32(len(answer)))
	_, _ = w.Write(prefix[:]) // the client has gone; there is nobody left to tell
	_, _ = w.Write(answer)
	return nil
}

// message reads the call's one message: a byte that says whether it is
// compressed, its length in four, and itself.
func (h *handler) message(w http.ResponseWriter, r *http.Request, limit int64, zip bool) (message []byte, compressed bool, done func(), err error) {
	if d, ok := r.Context().Deadline(); ok {
		_ = http.NewResponseController(w).SetReadDeadline(d) // for the prefix; ReadBody takes it back
	}
	var prefix [5]byte
	if _, err := io.ReadFull(r.Body, prefix[:]); err != nil {
		if cause := r.Context().Err(); cause != nil {
			return nil, false, nil, cause
		}
		return nil, false, nil, refuse("the call ends before its message")
	}
	n := binary.BigEndian.Uint32(prefix[1:])
	compressed = prefix[0] == 1
	if prefix[0] > 1 || compressed && !zip {
		return nil, false, nil, refuse("the message is flagged %d, and grpc-encoding is %.40q", prefix[0], r.Header.Get("Grpc-Encoding"))
	}
	if int64(n) > limit {
		return nil, false, nil, problem.New(http.StatusRequestEntityTooLarge, "the message has %d bytes; at most %d are taken", n, limit)
	}
	// As a body of its own it is read within the same bounds as any other.
	body := *r
	body.Header, body.ContentLength = http.Header{}, int64(n)
	if compressed {
		body.Header.Set("Content-Encoding", "gzip")
	}
	only := &onlyMessage{src: r.Body, left: int64(n)}
	body.Body = only
	message, done, err = h.read(w, &body, limit)
	switch {
	case only.err != nil:
		if done != nil {
			done()
		}
		return nil, false, nil, only.err
	case err != nil && r.Context().Err() != nil:
		return nil, false, nil, r.Context().Err()
	}
	return message, compressed, done, err
}

// onlyMessage reads the one message of a call, and makes sure that the stream
// ends behind it.
type onlyMessage struct {
	src  io.ReadCloser
	left int64
	err  error // why it is not the one message
}

func (m *onlyMessage) Read(p []byte) (int, error) {
	if m.left > 0 {
		n, err := m.src.Read(p[:min(int64(len(p)), m.left)])
		if m.left -= int64(n); m.left > 0 && errors.Is(err, io.EOF) {
			m.err = refuse("the message ends %d bytes too early", m.left)
			return n, io.ErrUnexpectedEOF
		} else if m.left == 0 {
			err = nil // asked again, below
		}
		return n, err
	}
	var b [1]byte
	n, err := m.src.Read(b[:])
	if n > 0 {
		m.err = refuse("there is a second message, or more of the first than its length says")
		return 0, m.err
	}
	return 0, err
}

func (m *onlyMessage) Close() error { return m.src.Close() }

// grpcTimeout reads a grpc-timeout: up to eight digits and a unit. 0 means
// that there is none.
func grpcTimeout(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	unit, ok := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}[s[len(s)-1]]
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if !ok || err != nil || len(s) > 9 {
		return 0, refuse("grpc-timeout is %.40q; want up to eight digits and a unit", s)
	}
	// At least a nanosecond (0 is a deadline that has passed), at most an hour.
	if n > uint64(time.Hour/unit) {
		return time.Hour, nil
	}
	return max(time.Duration(n)*unit, 1), nil
}

// grpcCode is the status code for what HTTP would answer err with.
func grpcCode(err error) int {
	if err == nil {
		return 0
	}
	if errors.Is(err, context.Canceled) {
		return grpcCancelled
	}
	switch problem.Status(err) {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusUnsupportedMediaType:
		return 3 // INVALID_ARGUMENT
	case http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return 4 // DEADLINE_EXCEEDED
	case http.StatusNotFound:
		return 5 // NOT_FOUND
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		return 8 // RESOURCE_EXHAUSTED
	case http.StatusNotImplemented, http.StatusMethodNotAllowed:
		return 12 // UNIMPLEMENTED
	case http.StatusServiceUnavailable:
		return 14 // UNAVAILABLE
	}
	return grpcInternal
}

// percentEncoded is a grpc-message: printable ASCII but for the percent sign.
func percentEncoded(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
