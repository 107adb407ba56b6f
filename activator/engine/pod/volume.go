package pod

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Mount is a volume: files that a container would see below Path.
type Mount struct {
	Path  string            // absolute and clean, as in the manifest
	Files map[string][]byte // by slash-separated path below Path
}

// WriteMounts writes each mount's files below dir, read-only for the pod, and
// returns where each mount's Path is now.
func WriteMounts(dir string, mounts []Mount) (map[string]string, error) {
	at := make(map[string]string, len(mounts))
	for i, m := range mounts {
		sub := fmt.Sprintf("volume-%d", i)
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("write the volume for %s: %w", m.Path, err)
		}
		root, err := os.OpenRoot(filepath.Join(dir, sub))
		if err != nil {
			return nil, fmt.Errorf("write the volume for %s: %w", m.Path, err)
		}
		err = writeFiles(root, m.Files)
		_ = root.Close() // nothing is buffered in it
		if err != nil {
			return nil, fmt.Errorf("write the volume for %s: %w", m.Path, err)
		}
		at[m.Path] = filepath.Join(dir, sub)
	}
	return at, nil
}

// writeFiles writes within root: a name that climbs out of it is an error.
func writeFiles(root *os.Root, files map[string][]byte) error {
	for name, data := range files {
		if d := path.Dir(name); d != "." {
			if err := root.MkdirAll(d, 0o700); err != nil {
				return err
			}
		}
		if err := root.WriteFile(name, data, 0o400); err != nil {
			return err
		}
	}
	return nil
}

// Relocate returns an environment value with a path at or below a mount
// replaced by where that mount was written; every other value is returned as
// it is. Of nested mounts the innermost decides.
func Relocate(value string, at map[string]string) string {
	best := ""
	for mount := range at {
		below := value == mount || strings.HasPrefix(value, strings.TrimSuffix(mount, "/")+"/")
		if below && len(mount) > len(best) {
			best = mount
		}
	}
	if best == "" {
		return value
	}
	return at[best] + strings.TrimPrefix(value, strings.TrimSuffix(best, "/"))
}
