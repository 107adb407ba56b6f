package manifest

import "errors"

// Load builds the kustomize folder dir and gives what it describes. Files are
// read below the working directory where dir lies in it, else below dir alone.
func Load(dir string) (*Set, error) {
	return nil, errors.New("manifest: Load is being written; see manifest.go for what it gives")
}

// LoadWithin is Load with files read below root.
func LoadWithin(root, dir string) (*Set, error) {
	return Load(dir)
}
