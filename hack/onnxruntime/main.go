// Command onnxruntime puts ONNX Runtime's shared library where the Makefile
// wants it: beside the binaries, found or fetched by internal/ortlib.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"aisle.dev/aisle/internal/ortlib"
)

func main() {
	out := flag.String("o", "", "put the library to this path; without it, print where it is")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	lib, err := ortlib.Find(ctx)
	if err == nil && *out != "" {
		err = ortlib.Install(lib, *out)
	} else if err == nil {
		fmt.Println(lib)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "onnxruntime:", err)
		os.Exit(1)
	}
}
