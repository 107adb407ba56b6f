package composition

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"aisle.dev/aisle/internal/taxonomy"
)

// parsePrior reads the labels' prior: CSV with the header label,share, one
// label a line in any order, whose shares sum to 1.
func parsePrior(data []byte) (map[string]float64, error) {
	r := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(data), "\ufeff")))
	r.FieldsPerRecord = 2
	r.ReuseRecord = true
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty; its first line is label,share")
	}
	if err != nil || !slices.Equal(header, []string{"label", "share"}) {
		return nil, errors.New("line 1: want the header label,share")
	}
	prior, lines := map[string]float64{}, map[string]int{}
	sum, last := 0.0, 1
	for {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if p, ok := errors.AsType[*csv.ParseError](err); ok {
				return nil, fmt.Errorf("line %d: %w; want a label and its share", p.Line, p.Err)
			}
			return nil, err
		}
		line, _ := r.FieldPos(0)
		label := rec[0]
		if err := taxonomy.CheckField("label", label); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		share, err := strconv.ParseFloat(rec[1], 64)
		switch first, twice := lines[label]; {
		case len(prior) == taxonomy.MaxNodes:
			return nil, fmt.Errorf("line %d: more than %d labels", line, taxonomy.MaxNodes)
		case label == "":
			return nil, fmt.Errorf("line %d: the label is empty", line)
		case twice:
			return nil, fmt.Errorf("line %d: the label %q is on line %d already; leave one of them out", line, label, first)
		case err != nil || !(share > 0 && share <= 1):
			return nil, fmt.Errorf("line %d: the share of %q is %.40q: want a number above 0, at most 1; leave a label out if its share is not known", line, label, rec[1])
		}
		prior[strings.Clone(label)], lines[strings.Clone(label)] = share, line
		sum, last = sum+share, line
	}
	if len(prior) == 0 {
		return nil, errors.New("it has no labels")
	}
	if math.Abs(sum-1) > 0.01 {
		return nil, fmt.Errorf("lines 2 to %d: the shares sum to %.4g: want 1; divide each by that sum", last, sum)
	}
	return prior, nil
}
