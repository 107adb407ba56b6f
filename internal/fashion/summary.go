package fashion

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Count is how many products, and how many of them with a photo.
type Count struct {
	Products int `json:"products"`
	Photos   int `json:"photos"`
}

// Summary describes a split without naming any product: it is what the
// repository keeps of the data.
type Summary struct {
	Rule       string         `json:"rule"`
	Labels     int            `json:"labels"`
	Parts      map[Part]Count `json:"parts"`
	Components int            `json:"components"`
	Largest    []int          `json:"largestComponents"`
	Refused    int            `json:"twinPairsRefused"`
	SplitCSV   string         `json:"splitSHA256"`    // of split.csv
	Data       string         `json:"dataSHA256"`     // see [Set.DataDigest]
	Smallest   Count          `json:"smallestInTest"` // label with the fewest test photos
}

// Summary counts.
func (s *Set) Summary() (Summary, error) {
	sum := Summary{Rule: Rule, Labels: len(s.Labels), Parts: map[Part]Count{}, Refused: s.Split.Refused}
	sizes, test := map[int]int{}, make([]Count, len(s.Labels))
	for i, p := range s.Products {
		part := s.Split.Part[i]
		sum.Parts[part] = sum.Parts[part].add(p)
		sizes[s.Split.Component[i]]++
		if part == Test {
			test[s.Label(p)] = test[s.Label(p)].add(p)
		}
	}
	for _, n := range sizes {
		sum.Largest = append(sum.Largest, n)
	}
	slices.SortFunc(sum.Largest, func(a, b int) int { return b - a })
	sum.Components = len(sum.Largest)
	sum.Largest = sum.Largest[:min(5, len(sum.Largest))]
	sum.Smallest = slices.MinFunc(test, func(a, b Count) int { return a.Photos - b.Photos })

	h := sha256.New()
	if err := s.Split.WriteCSV(h); err != nil {
		return sum, err
	}
	sum.SplitCSV = hex.EncodeToString(h.Sum(nil))
	var err error
	sum.Data, err = s.DataDigest()
	return sum, err
}

func (c Count) add(p Product) Count {
	c.Products++
	if p.Photo {
		c.Photos++
	}
	return c
}

// DataDigest is the sha256 over the lines "sha256  path\n" of products.csv and
// the photos of the labelled types, by rising id: the digest that the model
// packages name as their training data.
func (s *Set) DataDigest() (string, error) {
	h := sha256.New()
	paths := []string{"products.csv"}
	for _, p := range s.Products {
		if p.Photo {
			paths = append(paths, fmt.Sprintf("images/%d.jpg", p.ID))
		}
	}
	for _, path := range paths {
		data, err := os.ReadFile(filepath.Join(s.Dir, filepath.FromSlash(path)))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%x  %s\n", sha256.Sum256(data), path)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
