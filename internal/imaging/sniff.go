package imaging

import (
	"bytes"
	"image"
	"image/color"
	"net/http"
	"slices"

	"aisle.dev/aisle/internal/problem"
)

// Bounds of a picture, checked before it is decoded.
const (
	maxPixels = 25_000_000
	maxSide   = 16_384
	// A JPEG is decoded in scans, each of which may pass over all pixels though
	// it has only a few bytes. A usual progressive one has about ten, and any
	// other has one; a thumbnail within it counts as one more.
	maxScans  = 100
	maxPasses = 12 * maxPixels // pixels, each as often as a scan passes over it
)

var names = map[string]string{"jpeg": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WebP", "bmp": "BMP"}

const accepted = "send JPEG, PNG, GIF, WebP or BMP"

// header is what the first bytes say.
type header struct {
	format        string
	width, height int
	channels      int  // of a JPEG
	scans         int  // of a JPEG, its thumbnail's too
	progressive   bool // a progressive JPEG
	ycc           bool // a JPEG of luma and chroma, or of luma alone
	limited       bool // a lossy WebP: Y in 16-235, Cb and Cr in 16-240
	orientation   orientation
}

// readHeader says what kind of picture data is and its size as stored, or why
// it will not be read, from its header alone: it costs a few microseconds and
// kilobytes.
func readHeader(data []byte) (h header, err error) {
	if len(data) == 0 {
		return h, problem.New(http.StatusUnprocessableEntity, "the picture is empty")
	}
	format := signature(data)
	if _, ok := codecs[format]; !ok {
		if format == "" {
			return h, problem.New(http.StatusUnsupportedMediaType, "the data is not a picture of a kind that is read; %s", accepted)
		}
		return h, problem.New(http.StatusUnsupportedMediaType, "%s pictures are not read; %s", format, accepted)
	}
	cfg, err := config(format, data)
	if err != nil {
		return h, err
	}
	h = header{format: format, width: cfg.Width, height: cfg.Height, orientation: 1}
	switch {
	case h.width < 1 || h.height < 1:
		return h, problem.New(http.StatusUnprocessableEntity, "the %s picture has no pixels", names[format])
	case h.width > maxSide || h.height > maxSide || h.width*h.height > maxPixels:
		return h, problem.New(http.StatusUnprocessableEntity, "the picture has %dx%d pixels; at most %d a side and %d million in all are read", h.width, h.height, maxSide, maxPixels/1_000_000)
	}
	switch format {
	case "jpeg":
		h.ycc = cfg.ColorModel == color.YCbCrModel || cfg.ColorModel == color.GrayModel
		switch cfg.ColorModel {
		case color.GrayModel:
			h.channels = 1
		case color.CMYKModel:
			h.channels = 4
		default:
			h.channels = 3
		}
		h.progressive = bytes.Contains(data, []byte{0xff, 0xc2})
		h.scans = bytes.Count(data, []byte{0xff, 0xda})
		if h.scans > maxScans || h.scans*h.width*h.height > maxPasses {
			return h, problem.New(http.StatusUnprocessableEntity, "the JPEG picture has %d scans of %dx%d pixels; at most %d scans and %d million pixels in all of them are decoded", h.scans, h.width, h.height, maxScans, maxPasses/1_000_000)
		}
		h.orientation = exifOrientation(data)
	case "webp":
		// https://developers.google.com/speed/webp/docs/riff_container#extended_file_format
		const animated = 2
		if len(data) > 20 && string(data[12:16]) == "VP8X" && data[20]&animated != 0 {
			return h, problem.New(http.StatusUnprocessableEntity, "animated WebP pictures are not read; send one of its frames")
		}
		h.limited = true // where it has luma and chroma at all
	}
	if n := h.memory(); n > budget {
		return h, problem.New(http.StatusUnprocessableEntity, "decoding the picture, of %dx%d pixels, would take %d MB of memory; at most %d MB are given to one", h.width, h.height, n>>20, budget>>20)
	}
	return h, nil
}

func config(format string, data []byte) (cfg image.Config, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = problem.New(http.StatusUnprocessableEntity, "the %s picture's header cannot be read: %.200v", names[format], r)
		}
	}()
	if cfg, err = codecs[format].config(bytes.NewReader(data)); err != nil {
		return cfg, broken(format, err)
	}
	return cfg, nil
}

// signature names the format of data by its first bytes: a key of codecs, or
// the name of a format that is not read, or "".
func signature(data []byte) string {
	has := func(prefix string) bool { return bytes.HasPrefix(data, []byte(prefix)) }
	switch {
	case has("\xff\xd8\xff"):
		return "jpeg"
	case has("\x89PNG\r\n\x1a\n"):
		return "png"
	case has("GIF87a"), has("GIF89a"):
		return "gif"
	case has("RIFF") && len(data) >= 12 && string(data[8:12]) == "WEBP":
		return "webp"
	case has("BM") && len(data) >= 26 && data[6]|data[7]|data[8]|data[9] == 0: // the reserved bytes tell it from text
		return "bmp"
	case has("II*\x00"), has("MM\x00*"):
		return "TIFF"
	case has("\x00\x00\x01\x00"):
		return "ICO"
	case has("\xff\x0a"), has("\x00\x00\x00\x0cJXL "):
		return "JPEG XL"
	case has("\x00\x00\x00\x0cjP  "):
		return "JPEG 2000"
	case has("%PDF-"):
		return "PDF"
	case len(data) >= 12 && string(data[4:8]) == "ftyp": // ISO base media: the brand says which
		brand := string(data[8:12])
		switch {
		case brand == "avif" || brand == "avis":
			return "AVIF"
		case slices.Contains([]string{"heic", "heix", "heim", "heis", "hevc", "mif1", "msf1"}, brand):
			return "HEIC"
		}
		return "MP4"
	}
	if head := bytes.ToLower(data[:min(len(data), 512)]); bytes.Contains(head, []byte("<svg")) {
		return "SVG"
	}
	return ""
}
