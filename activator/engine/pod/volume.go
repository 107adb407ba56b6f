package pod

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Mount is a volume as a container would see it at Path.
type Mount struct {
	Path   string // absolute and clean, as in the manifest
	Volume string // what is mounted: mounts of the same volume share their files; empty: a volume of its own
	Files  map[string][]byte
	Modes  map[string]fs.FileMode // of those Files that are not 0400
	Empty  bool                   // an empty folder that the pod may write to, and that goes with it
}

// WriteMounts writes each mount's files below dir, read-only for the pod, and
// returns where each mount's Path is now.
func WriteMounts(dir string, mounts []Mount) (map[string]string, error) {
	at, volumes := make(map[string]string, len(mounts)), make(map[string]string, len(mounts))
	for i, m := range mounts {
		if sub, ok := volumes[m.Volume]; ok && m.Volume != "" {
			at[m.Path] = sub
			continue
		}
		sub := filepath.Join(dir, fmt.Sprintf("volume-%d", i))
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return nil, fmt.Errorf("write the volume for %s: %w", m.Path, err)
		}
		root, err := os.OpenRoot(sub)
		if err != nil {
			return nil, fmt.Errorf("write the volume for %s: %w", m.Path, err)
		}
		err = m.write(root)
		_ = root.Close() // nothing is buffered in it
		if err != nil {
			return nil, fmt.Errorf("write the volume for %s: %w", m.Path, err)
		}
		at[m.Path], volumes[m.Volume] = sub, sub
	}
	return at, nil
}

// write writes within root: a name that climbs out of it is an error.
func (m Mount) write(root *os.Root) error {
	for name, data := range m.Files {
		if d := path.Dir(name); d != "." {
			if err := root.MkdirAll(d, 0o700); err != nil {
				return err
			}
		}
		mode, ok := m.Modes[name]
		if !ok {
			mode = 0o400
		}
		if err := root.WriteFile(name, data, mode&0o555); err != nil {
			return err
		}
	}
	return nil
}

// removeAll removes a pod's folder, also where the pod has locked a folder
// of its own volume.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() { // no link: what it leads to is not ours
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
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
