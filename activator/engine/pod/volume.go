package pod

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
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

// dataLink is the link in a volume to the folder of the version that is to be read.
const dataLink = "..data"

// WriteMounts writes each mount's files below dir, read-only for the pod, and
// returns where each mount's Path is now. A volume of files is as kubelet makes
// it: each name in it is a link through ..data, which is a link to the folder of
// one version, so that [Pod.Refresh] replaces all files at once.
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
		if err := m.write(sub); err != nil {
			return nil, fmt.Errorf("write the volume for %s: %w", m.Path, err)
		}
		at[m.Path], volumes[m.Volume] = sub, sub
	}
	return at, nil
}

// equal reports whether two mounts have the same files.
func (m Mount) equal(o Mount) bool {
	return maps.EqualFunc(m.Files, o.Files, bytes.Equal) && maps.Equal(m.Modes, o.Modes)
}

// write makes the files the volume's: those of a version before go.
func (m Mount) write(volume string) error {
	if m.Empty {
		return nil
	}
	root, err := os.OpenRoot(volume)
	if err != nil {
		return err
	}
	defer root.Close()                   // nothing is buffered in it
	before, _ := root.Readlink(dataLink) // none: this is the first
	version, err := os.MkdirTemp(volume, "..version-")
	if err != nil {
		return err
	}
	if err := m.fill(version); err != nil {
		return errors.Join(err, os.RemoveAll(version))
	}
	const next = dataLink + "_tmp"
	_ = root.Remove(next) // of an engine that was killed between the two
	if err := errors.Join(root.Symlink(filepath.Base(version), next), root.Rename(next, dataLink)); err != nil {
		return errors.Join(err, os.RemoveAll(version))
	}
	if before == "" {
		return m.link(root, volume)
	}
	return errors.Join(m.link(root, volume), root.RemoveAll(before))
}

// link makes the volume's names those of the files, each a link through ..data.
func (m Mount) link(root *os.Root, volume string) error {
	names := map[string]bool{}
	for name := range m.Files {
		top, _, _ := strings.Cut(name, "/")
		names[top] = true
	}
	there, err := os.ReadDir(volume)
	if err != nil {
		return err
	}
	for _, e := range there {
		if name := e.Name(); !strings.HasPrefix(name, "..") && !names[name] {
			err = errors.Join(err, root.RemoveAll(name))
		}
		delete(names, e.Name())
	}
	for name := range names {
		err = errors.Join(err, root.Symlink(filepath.Join(dataLink, name), name))
	}
	return err
}

// fill writes the files below dir: a name that climbs out of it is an error.
func (m Mount) fill(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() // nothing is buffered in it
	for name, data := range m.Files {
		if strings.HasPrefix(name, "..") && !strings.HasPrefix(name, "../") {
			return fmt.Errorf("%q begins with two dots, as the volume's own names do", name)
		}
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

// Refresh writes the files of volumes that have changed since they were
// written, for a pod that runs. What reads a file again reads the new one.
// Mounts are those of the pod's [Spec], with other files. Once the process has
// gone it does nothing.
func (p *Pod) Refresh(mounts []Mount) error {
	p.volumes.Lock()
	defer p.volumes.Unlock()
	var errs []error
	done := map[string]bool{}
	for _, m := range mounts {
		i := slices.IndexFunc(p.mounts, func(o Mount) bool { return o.Path == m.Path && o.Volume == m.Volume })
		if i < 0 || m.Empty || m.equal(p.mounts[i]) {
			continue
		}
		if at := p.at[m.Path]; !done[at] {
			if err := m.write(at); err != nil {
				errs = append(errs, fmt.Errorf("write the volume for %s anew: %w", m.Path, err))
				continue
			}
			done[at] = true
		}
		p.mounts[i] = m
	}
	return errors.Join(errs...)
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
