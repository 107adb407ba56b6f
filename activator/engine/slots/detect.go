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

// Detect counts the GPUs that the driver reports: none where there is no
// driver.
func Detect(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	return detect(driverDir, func() ([]byte, error) {
		return exec.CommandContext(ctx, "nvidia-smi", "--list-gpus").Output()
	})
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

// Names are the names of n devices for CUDA_VISIBLE_DEVICES. visible is what
// that variable says for the engine itself: pods get of what it names; without
// it the devices are numbered.
func Names(n int, visible string) ([]string, error) {
	if n < 0 {
		return nil, fmt.Errorf("%d GPUs: want 0 or more", n)
	}
	if visible == "" {
		names := make([]string, n)
		for i := range names {
			names[i] = strconv.Itoa(i)
		}
		return names, nil
	}
	var names []string
	for name := range strings.SplitSeq(visible, ",") {
		if name = strings.TrimSpace(name); name == "" || strings.HasPrefix(name, "-") {
			break // as CUDA reads it: what follows an invalid one is not visible
		}
		names = append(names, name)
	}
	if n > len(names) {
		return nil, fmt.Errorf("%s are to be given out, and CUDA_VISIBLE_DEVICES=%s names %d", gpus(n), visible, len(names))
	}
	return names[:n], nil
}
