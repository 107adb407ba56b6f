package taxonomy

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ParseLabels reads what labels are called elsewhere: CSV with the header
// label,category, one label a line. Several may stand for one category.
func ParseLabels(data []byte) (map[string]string, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("the labels are %d bytes long; at most %d are read", len(data), MaxBytes)
	}
	r := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(data), "\ufeff")))
	r.FieldsPerRecord = 2
	if header, err := r.Read(); err != nil || !slices.Equal(header, []string{"label", "category"}) {
		return nil, errors.New("line 1: want the header label,category")
	}
	labels, lines := map[string]string{}, map[string]int{}
	for {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if p, ok := errors.AsType[*csv.ParseError](err); ok {
				return nil, fmt.Errorf("line %d: %w; want a label and the category that it stands for", p.Line, p.Err)
			}
			return nil, err
		}
		line, _ := r.FieldPos(0)
		switch first, twice := lines[rec[0]]; {
		case len(labels) == MaxNodes:
			return nil, fmt.Errorf("line %d: more than %d labels", line, MaxNodes)
		case rec[0] == "" || rec[1] == "":
			return nil, fmt.Errorf("line %d: want a label and the category that it stands for", line)
		case twice:
			return nil, fmt.Errorf("line %d: the label %q is on line %d already", line, rec[0], first)
		}
		for i, what := range []string{"label", "category"} {
			if err := CheckField(what, rec[i]); err != nil {
				return nil, fmt.Errorf("line %d: %w", line, err)
			}
		}
		labels[rec[0]], lines[rec[0]] = rec[1], line
	}
	if len(labels) == 0 {
		return nil, errors.New("it has no labels")
	}
	return labels, nil
}
