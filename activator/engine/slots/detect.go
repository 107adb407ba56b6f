package slots

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// driverDir has a folder for each GPU of NVIDIA's kernel driver.
const driverDir = "/proc/driver/nvidia/gpus"

// listTimeout bounds nvidia-smi, which can hang where the driver does.
const listTimeout = 5 * time.Second

// Detect names the GPUs that the driver reports, for CUDA_VISIBLE_DEVICES: none
// where there is no driver. visible is what that variable says for the engine
// itself; pods get of what it names.
func Detect(ctx context.Context, visible string) []string {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	n := detect(driverDir, func() ([]byte, error) {
		return exec.CommandContext(ctx, "nvidia-smi", "--list-gpus").Output()
	})
	names := names(n, visible)
	return names[:min(n, len(names))]
}

func detect(dir string, list func() ([]byte, error)) int {
	if entries, err := os.ReadDir(dir); err == nil {
		return len(entries)
	}
	text, err := list() // containers may have the tool and not the folder
	if err != nil {
		return 0
	}
	n := 0
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("GPU ")) { // the parts of a divided one are indented
			n++
		}
	}
	return n
}

// Names names n GPUs, of those that visible names. It is an error if those are
// fewer.
func Names(n int, visible string) ([]string, error) {
	if n < 0 {
		return nil, fmt.Errorf("%d GPUs: want 0 or more", n)
	}
	names := names(n, visible)
	if n > len(names) {
		return nil, fmt.Errorf("%s are to be given out, and CUDA_VISIBLE_DEVICES=%s names %d", gpus(n), visible, len(names))
	}
	return names[:n], nil
}

// names are all that visible names, or n numbers without it.
func names(n int, visible string) []string {
	var names []string
	if visible == "" {
		for i := range n {
			names = append(names, strconv.Itoa(i))
		}
		return names
	}
	for name := range strings.SplitSeq(visible, ",") {
		if name = strings.TrimSpace(name); name == "" || strings.HasPrefix(name, "-") {
			break // as CUDA reads it: what follows an invalid one is not visible
		}
		names = append(names, name)
	}
	return names
}
