// Package onnx runs ONNX graphs with ONNX Runtime. It is the only importer of
// onnxruntime_go, and owns what that leaves to its caller: the one global
// environment, memory that C code keeps a pointer to, cancellation, and the
// order in which things are destroyed.
//
// Guarantees: [Session.Run] may be called from many goroutines at once; it
// ends soon after its context does; the slices of its tensors are not moved,
// freed or touched by C code after it has returned; [Session.Close] waits for
// the runs in flight, and a run after it is [ErrClosed].
//
// The environment is never destroyed: it belongs to the process, and C code
// may still use it in exit handlers.
//
// A graph's names, types and shapes are read from its file ([Inspect]), since
// onnxruntime_go builds a second session for that.
//
// Non-goals: sequences, maps (but skl2onnx's ZipMap), sparse and optional
// tensors, types of less than a byte, complex numbers, and training. A scalar
// input of strings or 16-bit floats cannot be given through onnxruntime_go.
package onnx

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// LibraryName is the file name of ONNX Runtime's shared library.
const LibraryName = "libonnxruntime.so.1"

// Library says where the shared library is: at named (the value of
// ONNXRUNTIME_LIB) when that is not empty, else beside the executable.
func Library(named, executable string) (string, error) {
	if named != "" {
		if _, err := os.Stat(named); err != nil {
			return "", fmt.Errorf("ONNXRUNTIME_LIB names a library that cannot be used: %w", err)
		}
		return named, nil
	}
	path := filepath.Join(filepath.Dir(executable), LibraryName)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("ONNX Runtime is not beside the executable (make build puts it there; or name an installed one in ONNXRUNTIME_LIB): %w", err)
	}
	return path, nil
}

// env guards the process's one environment: onnxruntime_go keeps it, and the
// library's path, in unlocked globals.
var env struct {
	sync.Mutex
	path string // of the loaded library; empty before the first Init
	err  error
}

// Init loads the library at path and creates the environment, which takes
// some 20 ms. A second Init with the same path gives the first one's result;
// with another path it is an error, since a process has one environment.
// Concurrent callers wait for the first.
func Init(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	env.Lock()
	defer env.Unlock()
	if env.path == abs {
		return env.err
	}
	if env.path != "" {
		return fmt.Errorf("ONNX Runtime is loaded from %s; a process cannot load %s as well", env.path, abs)
	}
	env.path = abs
	ort.SetSharedLibraryPath(abs)
	// Warnings of the runtime go to stderr in a format of its own; errors
	// reach the caller anyway.
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		env.err = fmt.Errorf("load ONNX Runtime (version 1.24 or newer is needed) from %s: %w", abs, err)
	}
	return env.err
}

// Version is ONNX Runtime's version. It is empty before [Init].
func Version() string {
	env.Lock()
	defer env.Unlock()
	if env.path == "" || env.err != nil {
		return ""
	}
	return ort.GetVersion()
}

func initialised() error {
	env.Lock()
	defer env.Unlock()
	if env.path == "" {
		return errors.New("ONNX Runtime is not loaded: call onnx.Init first")
	}
	return env.err
}
