package delivery

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	"aisle.dev/aisle/internal/product"
)

// withPicture returns p with one more picture. It shares the picture's
// memory, and not the list of images, with its arguments.
func withPicture(p product.Product, picture []byte) product.Product {
	if len(picture) > 0 {
		p.Images = append(slices.Clip(p.Images), product.Image{Data: picture})
	}
	return p
}

// AppendProduct appends the product's JSON to dst. It is encoding/json's, but
// for the pictures, which are most of the bytes: their base64 is written
// straight to where it stays.
func AppendProduct(dst []byte, p product.Product) ([]byte, error) {
	images := p.Images
	p.Images = nil
	text, err := json.Marshal(p)
	if err != nil {
		return dst, fmt.Errorf("encode the product: %w", err)
	}
	size := len(text) + 16
	for _, im := range images {
		size += base64.StdEncoding.EncodedLen(len(im.Data)) + len(im.URL) + 32
	}
	dst = append(slices.Grow(dst, size), text...)
	if len(images) == 0 {
		return dst, nil
	}
	dst = dst[:len(dst)-1] // the closing brace
	if len(text) > len("{}") {
		dst = append(dst, ',')
	}
	dst = append(dst, `"images":[`...)
	for i, im := range images {
		if i > 0 {
			dst = append(dst, ',')
		}
		if len(im.Data) == 0 {
			url, err := json.Marshal(im)
			if err != nil {
				return dst, fmt.Errorf("encode images[%d]: %w", i, err)
			}
			dst = append(dst, url...)
			continue
		}
		dst = append(dst, `{"data":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, im.Data)
		dst = append(dst, `"}`...)
	}
	return append(dst, "]}"...), nil
}
