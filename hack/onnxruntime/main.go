// Command onnxruntime puts ONNX Runtime's shared library where the Makefile
// wants it: beside the binaries, found or fetched by internal/ortlib.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"aisle.dev/aisle/internal/ortlib"
)

func main() {
	out := flag.String("o", "", "put the library to this path; without it, print where it is")
	platform := flag.String("platform", runtime.GOOS+"/"+runtime.GOARCH, "of the library")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	lib, err := ortlib.FindFor(ctx, *platform)
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
