package reviewing

import (
	"cmp"
	"maps"
	"slices"

	"aisle.dev/aisle/internal/score"
)

// Stats is how right the answers were that were reviewed.
type Stats struct {
	Waiting  int            `json:"waiting"`
	Reviewed int            `json:"reviewed"`
	Right    int            `json:"right"`    // the likeliest label was right
	Accuracy float64        `json:"accuracy"` // Right of Reviewed
	Interval score.Interval `json:"accuracyInterval"`
	Among    int            `json:"among"` // the right label was among the candidates
	By       []CategoryStat `json:"categories"`
}

// CategoryStat is the same of the products of one category.
type CategoryStat struct {
	Label    string         `json:"label"`
	Reviewed int            `json:"reviewed"`
	Right    int            `json:"right"`
	Interval score.Interval `json:"accuracyInterval"`
}

// Stats counts what was decided; the categories with most wrong answers first.
func (q *Queue) Stats() Stats {
	s := Stats{Waiting: q.held + len(q.beyond), Reviewed: len(q.decided)}
	by := map[string]*CategoryStat{}
	for _, o := range q.decided {
		c := by[o.label]
		if c == nil {
			c = &CategoryStat{Label: o.label}
			by[o.label] = c
		}
		c.Reviewed++
		if o.right {
			s.Right++
			c.Right++
		}
		if o.rank > 0 {
			s.Among++
		}
	}
	s.Interval = score.Wilson(s.Right, s.Reviewed)
	if s.Reviewed > 0 {
		s.Accuracy = float64(s.Right) / float64(s.Reviewed)
	}
	s.By = []CategoryStat{}
	for _, label := range slices.Sorted(maps.Keys(by)) {
		c := *by[label]
		c.Interval = score.Wilson(c.Right, c.Reviewed)
		s.By = append(s.By, c)
	}
	slices.SortStableFunc(s.By, func(a, b CategoryStat) int { return cmp.Compare(b.Reviewed-b.Right, a.Reviewed-a.Right) })
	return s
}
