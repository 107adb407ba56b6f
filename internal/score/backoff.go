package score

// Step is how a product is answered where a category must be so sure: with one
// of Level (a root's is 1; 0: with none), and whether the product is in it.
type Step struct {
	Level int8
	Leaf  bool
	Right bool
}

// BackOff is what one threshold gives where an answer that is not sure enough
// of a category backs off to the one above it.
type BackOff struct {
	Threshold float64   `json:"threshold"` // how sure of a category an answer must be
	Share     float64   `json:"share"`     // of the products that are answered
	Right     float64   `json:"right"`     // of those, how many are in their category; 1 where there are none
	Leaf      float64   `json:"leaf"`      // of all products, those that are answered with a leaf
	Levels    []float64 `json:"levels"`    // of all products, those that are answered with a category of level 1, 2, ...
}

// BackOffs says what each threshold gives; products[i][k] is how product i is
// answered at the k-th.
func BackOffs(products [][]Step, thresholds []float64) []BackOff {
	out := make([]BackOff, len(thresholds))
	for k, t := range thresholds {
		b := BackOff{Threshold: t, Right: 1}
		var answered, right, leaf int
		var levels []float64
		for _, p := range products {
			s := p[k]
			if s.Level == 0 {
				continue
			}
			answered++
			if s.Right {
				right++
			}
			if s.Leaf {
				leaf++
			}
			for len(levels) < int(s.Level) {
				levels = append(levels, 0)
			}
			levels[s.Level-1]++
		}
		n := float64(len(products))
		for i := range levels {
			levels[i] /= n
		}
		if answered > 0 {
			b.Share, b.Right, b.Leaf = float64(answered)/n, float64(right)/float64(answered), float64(leaf)/n
		}
		b.Levels = levels
		out[k] = b
	}
	return out
}

// BackOffAt finds the lowest of rising thresholds at which at least a share
// precision of the answered products is right, and the interval of the share
// that is answered then: a bias-corrected percentile one, each resample with a
// threshold of its own. It returns -1 where no threshold gives the precision.
func BackOffAt(products [][]Step, all []BackOff, precision float64, seed uint64) (at int, share Interval) {
	at, share = -1, Interval{0, 1}
	estimate := 0.0
	for k, b := range all {
		if b.Share > 0 && b.Right >= precision-1e-12 {
			at, estimate = k, b.Share
			break
		}
	}
	if len(products) < 2 {
		return at, share
	}
	answered, right := make([]int, len(all)), make([]int, len(all))
	shares := resample(len(products), seed, func(drawn []int) float64 {
		clear(answered)
		clear(right)
		for i, times := range drawn {
			if times == 0 {
				continue
			}
			for k, s := range products[i] {
				if s.Level > 0 {
					answered[k] += times
				}
				if s.Right {
					right[k] += times
				}
			}
		}
		for k, n := range answered {
			if n > 0 && float64(right[k]) >= (precision-1e-12)*float64(n) {
				return float64(n) / float64(len(products))
			}
		}
		return 0
	})
	return at, corrected(shares, estimate)
}
