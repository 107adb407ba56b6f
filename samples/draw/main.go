// Command draw makes the drawings of samples/drawings: one simple drawing of
// 224x224 pixels, on white, for each sample product. They are drawn from the
// shapes in this folder and copied from nowhere; nothing is trained on them.
//
//	go run ./samples/draw            # writes samples/drawings/*.jpg
//	go run ./samples/draw -sheet F   # and a sheet of all of them, to be looked at
package main

import (
	"bytes"
	"flag"
	"fmt"
	"image"
	"image/draw"
	"image/jpeg"
	"os"
	"path/filepath"
)

const (
	size    = 224
	quality = 88
)

func main() {
	dir := flag.String("o", "samples/drawings", "folder to write to")
	sheet := flag.String("sheet", "", "also write all drawings as one JPEG")
	flag.Parse()
	if err := run(*dir, *sheet); err != nil {
		fmt.Fprintln(os.Stderr, "draw:", err)
		os.Exit(1)
	}
}

func run(dir, sheet string) error {
	const columns = 6
	rows := (len(drawings) + columns - 1) / columns
	all := image.NewRGBA(image.Rect(0, 0, columns*size, rows*size))
	for i, d := range drawings {
		im, err := render(d)
		if err != nil {
			return err
		}
		data, err := encode(im)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, d.name+".jpg"), data, 0o644); err != nil {
			return err
		}
		at := image.Pt(i%columns*size, i/columns*size)
		draw.Draw(all, im.Bounds().Add(at), im, image.Point{}, draw.Src)
	}
	if sheet == "" {
		return nil
	}
	data, err := encode(all)
	if err != nil {
		return err
	}
	return os.WriteFile(sheet, data, 0o644)
}

func encode(im image.Image) ([]byte, error) {
	var buf bytes.Buffer
	err := jpeg.Encode(&buf, im, &jpeg.Options{Quality: quality})
	return buf.Bytes(), err
}
