package onnx

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// window reads protobuf out of a file, and only what it is asked for: weights
// are passed over.
type window struct {
	r    io.ReaderAt
	size int64
	at   int64
	buf  []byte // the file's bytes from at
}

// span is a part of the file: from its first byte to the one behind its last.
type span struct{ from, to int64 }

// field is one field of a message.
type field struct {
	number protowire.Number
	kind   protowire.Type
	value  uint64 // of a varint
	span          // of a length-delimited one's content
}

var (
	errTruncated = errors.New("it is truncated: copy or download it again")
	errWire      = errors.New("it is no protobuf")
)

const windowSize = 64 << 10

// peek returns up to n bytes from off on, and fewer only at the file's end.
// They hold until the next call.
func (w *window) peek(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.size-off))
	if off < w.at || off+int64(n) > w.at+int64(len(w.buf)) {
		if cap(w.buf) < max(n, windowSize) {
			w.buf = make([]byte, max(n, windowSize))
		}
		w.buf = w.buf[:min(int64(cap(w.buf)), w.size-off)]
		w.at = off
		if _, err := w.r.ReadAt(w.buf, off); err != nil {
			w.buf = w.buf[:0]
			if errors.Is(err, io.EOF) { // it has become shorter meanwhile
				return nil, errTruncated
			}
			return nil, err
		}
	}
	return w.buf[off-w.at:][:n], nil
}

// each visits the fields of the message at s, in their order.
func (w *window) each(s span, visit func(field) error) error {
	for at := s.from; at < s.to; {
		// A tag and a varint, or a tag and a length.
		b, err := w.peek(at, int(min(2*10, s.to-at)))
		if err != nil {
			return err
		}
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return w.broken(s, len(b))
		}
		f := field{number: number, kind: kind}
		at += int64(n)
		b = b[n:]
		switch kind {
		case protowire.VarintType, protowire.BytesType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return w.broken(s, len(b))
			}
			at += int64(n)
			f.value = v
			if kind == protowire.BytesType {
				if v > uint64(s.to-at) {
					return w.broken(s, 0)
				}
				f.span = span{at, at + int64(v)}
				f.value, at = 0, f.to
			}
		case protowire.Fixed32Type:
			at += 4
		case protowire.Fixed64Type:
			at += 8
		default:
			return errWire // groups: ONNX has none
		}
		if at > s.to {
			return w.broken(s, 0)
		}
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}

// broken says what it means that a message at s has an end that left is too
// near to: the whole file's is one that was cut off.
func (w *window) broken(s span, left int) error {
	if s.to == w.size && left < 2*10 {
		return errTruncated
	}
	return errWire
}

// bytes returns the content at s, of at most maxName bytes. It holds until the
// next call.
func (w *window) bytes(s span) ([]byte, error) {
	if s.to-s.from > maxName {
		return nil, fmt.Errorf("it has a name of %d bytes", s.to-s.from)
	}
	return w.peek(s.from, int(s.to-s.from))
}

func (w *window) text(f field) (string, error) {
	b, err := w.bytes(f.span)
	return string(b), err
}

// varints visits the numbers of a repeated field, packed or not.
func (w *window) varints(f field, visit func(uint64) error) error {
	if f.kind != protowire.BytesType {
		return visit(f.value)
	}
	for at := f.from; at < f.to; {
		b, err := w.peek(at, int(min(10, f.to-at)))
		if err != nil {
			return err
		}
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return errWire
		}
		at += int64(n)
		if err := visit(v); err != nil {
			return err
		}
	}
	return nil
}

// placeEnd is the end of external data, from its offset and length in decimal;
// either may be missing.
func placeEnd(offset, length string) (int64, error) {
	var end int64
	for _, s := range []string{offset, length} {
		if s == "" {
			continue
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64-end {
			return 0, fmt.Errorf("its offset %q and length %q are no place in a file", offset, length)
		}
		end += n
	}
	return end, nil
}
