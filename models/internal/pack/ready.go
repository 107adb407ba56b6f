package pack

import (
	"context"
	"fmt"
	"io"

	"aisle.dev/aisle/internal/fashion"
	"aisle.dev/aisle/internal/onnx"
	"aisle.dev/aisle/internal/ortlib"
)

// Ready is how every recipe begins: ONNX Runtime is loaded, and the data of
// AISLE_DATA read and split.
func Ready(ctx context.Context, getenv func(string) string, progress io.Writer) (*fashion.Set, error) {
	dir, err := fashion.Dir(getenv)
	if err != nil {
		return nil, err
	}
	lib, err := ortlib.Find(ctx)
	if err != nil {
		return nil, err
	}
	if err := onnx.Init(lib); err != nil {
		return nil, err
	}
	fmt.Fprintln(progress, "reading and splitting the data")
	return fashion.Load(ctx, dir)
}
