package manifest

import (
	"fmt"
	"iter"
	"strings"
)

// meant is " did you mean …?" for a name that is not known, or empty where no
// known name is near.
func meant(name string, known iter.Seq[string]) string {
	// One slip in three letters is a slip; more is another word.
	limit := 1 + min(3, (len(name)+2)/3)
	best, distance := "", limit
	for k := range known {
		d := editDistance(strings.ToLower(name), strings.ToLower(k), limit)
		if d < distance || d == distance && d < limit && k < best {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// editDistance counts the insertions, deletions and replacements that turn a
// into b, up to limit.
func editDistance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return min(row[len(b)], limit)
}
