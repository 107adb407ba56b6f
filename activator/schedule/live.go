package schedule

import "fmt"

// Share is a revision's part of its service's traffic, in percent.
type Share struct {
	Revision string
	Percent  int64
}

// Live picks the revision that has the bounds, by where requests go now, and
// says by which rule: the largest share of traffic; among equal shares the
// newest. The shares are the oldest revision's first. It is "" where no request
// goes to any of them.
func Live(shares []Share) (revision, rule string) {
	var best Share
	alike := 0
	for _, s := range shares {
		switch {
		case s.Percent > best.Percent:
			best, alike = s, 1
		case s.Percent > 0 && s.Percent == best.Percent:
			best = s
			alike++
		}
	}
	switch alike {
	case 0:
		return "", ""
	case 1:
		return best.Revision, fmt.Sprintf("%d%% of traffic, the largest share", best.Percent)
	default:
		return best.Revision, fmt.Sprintf("%d%% of traffic; the newest of %d with this largest share", best.Percent, alike)
	}
}
