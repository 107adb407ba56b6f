//go:build turbo

package imaging

/*
#cgo CFLAGS: -O2
#cgo LDFLAGS: -l:libjpeg.a
#cgo noescape aisle_jpeg
#cgo nocallback aisle_jpeg
#include "turbo.h"
*/
import "C"

import (
	"context"
	"runtime"

	"golang.org/x/sync/semaphore"
)

// Turbo says whether this build reads JPEGs with libjpeg-turbo.
const Turbo = true

// calls bounds the calls at once: each holds a thread, and more of them than
// CPUs would only wait for each other.
var calls = semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0)))

// turbo decodes, resizes and writes a JPEG with libjpeg-turbo. It gives false
// where the picture is for Go to decode, or to refuse; dst is then undefined.
func turbo(dst []float32, data []byte, h header, l layout) bool {
	if h.format != "jpeg" || h.channels > 3 {
		return false
	}
	x, y := tapsFor(axis{h.width, 1}, l.x), tapsFor(axis{h.height, 1}, l.y)
	job := C.aisle_job{
		width: C.int32_t(h.width), height: C.int32_t(h.height),
		columns: C.int32_t(l.x.n), rows: C.int32_t(l.y.n),
		taps_x: C.int32_t(x.n), taps_y: C.int32_t(y.n),
		at: C.int64_t(l.at), dx: C.int64_t(l.dx), dy: C.int64_t(l.dy),
		memory: C.int64_t(h.coefficients()),
	}
	if l.grey {
		job.grey = 1
	}
	for c, n := range l.colours {
		job.colour[c], job.mul[c], job.add[c] = C.int64_t(n.at), C.float(n.mul), C.float(n.add)
	}
	// The rows that an output row is made of, its sums, and the library's own.
	weight := h.coefficients() + int64(h.width)*(int64(y.n)*4+16+128)
	_ = decoding.Acquire(context.Background(), weight)
	defer decoding.Release(weight)
	_ = calls.Acquire(context.Background(), 1)
	defer calls.Release(1)
	failed := C.aisle_jpeg(&job, (*C.uint8_t)(&data[0]), C.size_t(len(data)),
		(*C.int32_t)(&x.lo[0]), (*C.float)(&x.floats[0]), (*C.int32_t)(&y.lo[0]), (*C.float)(&y.floats[0]), (*C.float)(&dst[0]))
	return failed == 0
}

// coefficients is what libjpeg may take to hold a picture that comes in several
// scans: 16 bits for each sample of whole blocks, and something for all others.
func (h header) coefficients() int64 {
	const others = 256 << 10
	if !h.progressive && h.scans == 1 {
		return others
	}
	up := func(n int) int64 { return (int64(n) + 31) &^ 31 }
	return others + 2*int64(h.channels)*up(h.width)*up(h.height)
}
