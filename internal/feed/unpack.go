package feed

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// unpacked gives what is in a file that is compressed: gzip, or the first file
// in a zip archive, which is read as it comes (a pipe has no end to look for a
// directory at). Nothing is ever held of it but a window: how much comes out of
// how little does not matter, since each record is bounded.
func unpacked(name string, in *bufio.Reader) (out *bufio.Reader, packed string, err error) {
	head, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", fmt.Errorf("read %s: %w", name, err)
	}
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, "", fmt.Errorf("%s begins like gzip and is not: %w", name, err)
		}
		return bufio.NewReaderSize(z, window), "gzip", nil
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		z, err := unzip(in)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", name, err)
		}
		return bufio.NewReaderSize(z, window), "zip", nil
	}
	return in, "", nil
}

// What a member's header says, by APPNOTE.TXT 6.3.10, section 4.3.7.
const (
	zipHeader    = 30 // bytes before the name
	zipEncrypted = 1 << 0
	zipLater     = 1 << 3 // its length and checksum come after it
	zipStored    = 0
	zipDeflated  = 8
)

// unzip opens the first file in an archive: folders before it are passed over.
func unzip(in *bufio.Reader) (io.Reader, error) {
	for {
		var h [zipHeader]byte
		if _, err := io.ReadFull(in, h[:]); err != nil || !bytes.HasPrefix(h[:], []byte("PK\x03\x04")) {
			return nil, errors.New("the zip archive holds no file")
		}
		u16 := func(at int) int { return int(binary.LittleEndian.Uint16(h[at:])) }
		flags, method, sum, length := u16(6), u16(8), binary.LittleEndian.Uint32(h[14:]), binary.LittleEndian.Uint32(h[18:])
		name := make([]byte, u16(26))
		if _, err := io.ReadFull(in, name); err != nil {
			return nil, errors.New("the zip archive ends in its first header")
		}
		if _, err := in.Discard(u16(28)); err != nil {
			return nil, errors.New("the zip archive ends in its first header")
		}
		switch {
		case flags&zipEncrypted != 0:
			return nil, errors.New("the zip archive is encrypted; unpack it first")
		case string(name) == "[Content_Types].xml" || string(name) == "mimetype":
			return nil, errors.New("it is a workbook or another document; export it as CSV first")
		case bytes.HasSuffix(name, []byte("/")) && length == 0 && flags&zipLater == 0:
			continue
		case method == zipStored && flags&zipLater == 0 && length != 1<<32-1:
			return &member{r: io.LimitReader(in, int64(length)), want: sum, length: int64(length)}, nil
		case method == zipDeflated && flags&zipLater != 0:
			return &member{r: flate.NewReader(in), after: in, length: -1}, nil
		case method == zipDeflated:
			return &member{r: flate.NewReader(in), want: sum, length: -1}, nil
		}
		return nil, fmt.Errorf("the file %q in the zip archive is packed in a way that is not read (method %d); unpack it first", strings.ToValidUTF8(clip(string(name)), "?"), method)
	}
}

// member is a file of an archive, held to its checksum.
type member struct {
	r      io.Reader
	after  *bufio.Reader // its checksum comes after it, here; nil: want is it
	want   uint32
	length int64 // -1: it ends by itself
	sum    uint32
	n      int64
	end    error
}

func (m *member) Read(p []byte) (int, error) {
	if m.end != nil {
		return 0, m.end
	}
	n, err := m.r.Read(p)
	m.sum = crc32.Update(m.sum, crc32.IEEETable, p[:n])
	m.n += int64(n)
	if err != nil {
		m.end = m.last(err)
	}
	return n, m.end
}

func (m *member) last(err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	if m.after != nil {
		var d [8]byte
		if _, err := io.ReadFull(m.after, d[:4]); err == nil && bytes.Equal(d[:4], []byte("PK\x07\x08")) {
			_, err = io.ReadFull(m.after, d[:4])
			if err != nil {
				return io.ErrUnexpectedEOF
			}
		} else if err != nil {
			return io.ErrUnexpectedEOF
		}
		m.want = binary.LittleEndian.Uint32(d[:])
	}
	switch {
	case m.length >= 0 && m.n < m.length:
		return io.ErrUnexpectedEOF
	case m.sum != m.want:
		return errors.New("the zip archive is damaged: its checksum is another")
	}
	return io.EOF
}
