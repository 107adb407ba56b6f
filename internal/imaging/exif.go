package imaging

import (
	"bytes"
	"encoding/binary"
)

// orientation is EXIF's: how the stored picture lies. 1 is upright, 2 to 8
// are the other rotations and reflections; 5 to 8 swap width and height.
type orientation uint8

func (o orientation) turned() bool { return o >= 5 }

// exifOrientation reads the orientation out of a JPEG. Whatever is not
// understood is upright: a broken note must not cost the picture.
func exifOrientation(data []byte) orientation {
	// Segments follow each other from offset 2: a marker, and a length that
	// counts itself. EXIF comes before the picture's frame.
	for p := 2; p+4 <= len(data) && data[p] == 0xff; {
		marker, n := data[p+1], int(binary.BigEndian.Uint16(data[p+2:]))
		switch {
		case marker == 0xff: // padding
			p++
			continue
		case marker >= 0xd0 && marker <= 0xd9 || marker == 0xda || n < 2 || p+2+n > len(data):
			return 1
		}
		if body, ok := bytes.CutPrefix(data[p+4:p+2+n], []byte("Exif\x00\x00")); ok && marker == 0xe1 {
			return tiffOrientation(body)
		}
		p += 2 + n
	}
	return 1
}

// tiffOrientation reads the tag 0x0112 of the first directory.
func tiffOrientation(b []byte) orientation {
	if len(b) < 8 {
		return 1
	}
	var order binary.ByteOrder = binary.LittleEndian
	if b[0] == 'M' {
		order = binary.BigEndian
	}
	dir := int64(order.Uint32(b[4:]))
	if dir+2 > int64(len(b)) {
		return 1
	}
	count := int(order.Uint16(b[dir:]))
	for e := b[dir+2:]; count > 0 && len(e) >= 12; count, e = count-1, e[12:] {
		const short = 3
		if order.Uint16(e) == 0x0112 && order.Uint16(e[2:]) == short {
			if v := order.Uint16(e[8:]); v >= 1 && v <= 8 {
				return orientation(v)
			}
			return 1
		}
	}
	return 1
}
