package serve

import (
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"aisle.dev/aisle/internal/problem"
)

const (
	// bodyTimeout bounds how long a caller may take to send a body: a slow
	// one must not hold memory and a connection for ever. Run sets it.
	bodyTimeout = 30 * time.Second

	// trusted is how much memory a Content-Length alone is worth. A longer
	// body gets its memory as its bytes arrive.
	trusted = 256 << 10
)

// ReadBody returns the whole body of r, decompressed, if it has at most max
// bytes. It understands the content codings identity, gzip and deflate. Errors
// are *problem.Error: 413 for too much (before or after decompression: a bomb
// is given up at max bytes), 415 for another coding, 400 for a body that ends
// too early or is not what its coding says, 408 for one that took too long: bodyTimeout, or
// longer than r's context lasts.
func ReadBody(w http.ResponseWriter, r *http.Request, max int64) ([]byte, error) {
	var unzip func(io.Reader) (io.Reader, error)
	switch enc := strings.ToLower(strings.TrimSpace(strings.Join(r.Header.Values("Content-Encoding"), ","))); enc {
	case "", "identity":
	case "gzip", "x-gzip":
		unzip = func(src io.Reader) (io.Reader, error) { return gzip.NewReader(src) }
	case "deflate":
		unzip = func(src io.Reader) (io.Reader, error) { return zlib.NewReader(src) }
	default:
		w.Header().Set("Accept-Encoding", "gzip, deflate")
		return nil, problem.New(http.StatusUnsupportedMediaType, "content coding %.40q is not understood; send the body plain, or with gzip or deflate", enc)
	}
	if r.ContentLength > max {
		return nil, tooLarge(max)
	}

	rc := http.NewResponseController(w)
	if d, ok := r.Context().Deadline(); ok && time.Until(d) < bodyTimeout {
		_ = rc.SetReadDeadline(d) // the context's end would not wake a read
	}
	src, hint := io.Reader(http.MaxBytesReader(w, r.Body, max)), r.ContentLength
	if unzip != nil {
		zr, err := unzip(src)
		if err != nil {
			return nil, explain(err, max)
		}
		src, hint = zr, 3*hint
	}
	data, err := readAll(src, sizeHint(hint), max)
	if err != nil {
		return nil, explain(err, max)
	}
	// The deadline is of the body only: it must not end the request's context
	// while it is answered. After an error it stays, since the server reads
	// on, to keep the connection.
	_ = rc.SetReadDeadline(time.Time{})
	return data, nil
}

// boundBody gives a request's body bodyTimeout to arrive, whoever reads it:
// after a handler that did not, the server does, before it sends the answer.
func boundBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	}
}

func sizeHint(n int64) int64 { return min(max(n, 512), trusted) }

// errLong: the source has more than max bytes.
var errLong = errors.New("body too long")

// readAll reads src to its end into a buffer that begins with hint bytes and
// never grows past about twice what has arrived.
func readAll(src io.Reader, hint, max int64) ([]byte, error) {
	// One byte more than hinted, so that a body of the announced length ends
	// without growing the buffer.
	buf := make([]byte, 0, min(hint, max)+1)
	for {
		n, err := src.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > max:
			return nil, errLong
		case errors.Is(err, io.EOF):
			return buf, nil
		case err != nil:
			return nil, err
		}
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(2*int64(cap(buf)), max+1))
			copy(grown, buf)
			buf = grown
		}
	}
}

func tooLarge(max int64) error {
	return problem.New(http.StatusRequestEntityTooLarge, "the request body is larger than %d bytes (decompressed)", max)
}

func explain(err error, max int64) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok && e != nil || errors.Is(err, errLong) {
		return tooLarge(max)
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return problem.New(http.StatusRequestTimeout, "the request body did not arrive in time")
	}
	switch {
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		return problem.New(http.StatusBadRequest, "the request body is not valid gzip, though Content-Encoding says so")
	case errors.Is(err, zlib.ErrHeader), errors.Is(err, zlib.ErrChecksum), errors.Is(err, zlib.ErrDictionary):
		return problem.New(http.StatusBadRequest, "the request body is not valid deflate (zlib), though Content-Encoding says so")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return problem.New(http.StatusBadRequest, "the request body ends too early")
	}
	return problem.New(http.StatusBadRequest, "the request body cannot be read: %s", fmt.Sprintf("%.200s", err))
}
