package fit

import "math"

// lbfgs minimises a smooth convex function from x, in place, until a step
// lowers it by less than tolerance of its value, or after so many steps
// (J. Nocedal and S. Wright, "Numerical Optimization", 2nd ed., algorithms 7.4
// and 7.5, with Armijo's backtracking). f writes its gradient at x to grad.
func lbfgs(x []float64, f func(x, grad []float64) float64, tolerance float64, steps int) {
	const memory, slope = 8, 1e-4
	n := len(x)
	grad, step, next, nextGrad := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	var moved, turned [][]float64 // differences of x and of grad, the latest last
	var scale []float64           // 1 / (moved · turned)
	now := f(x, grad)
	for range steps {
		for i, g := range grad {
			step[i] = -g
		}
		alpha := make([]float64, len(moved))
		for k := len(moved) - 1; k >= 0; k-- {
			alpha[k] = scale[k] * dot(moved[k], step)
			add(step, -alpha[k], turned[k])
		}
		if k := len(moved) - 1; k >= 0 {
			by := 1 / (scale[k] * dot(turned[k], turned[k]))
			for i := range step {
				step[i] *= by
			}
		}
		for k := range moved {
			add(step, alpha[k]-scale[k]*dot(turned[k], step), moved[k])
		}
		down, length := dot(grad, step), 1.0
		if len(moved) == 0 {
			length = min(1, 1/math.Sqrt(max(-down, 1e-300)))
		}
		after := math.Inf(1)
		for ; length > 1e-12; length /= 2 {
			copy(next, x)
			add(next, length, step)
			if after = f(next, nextGrad); after <= now+slope*length*down {
				break
			}
		}
		if !(after < now) {
			return // nothing lower: this is the minimum, as far as rounding tells
		}
		s, y := make([]float64, n), make([]float64, n)
		for i := range s {
			s[i], y[i] = next[i]-x[i], nextGrad[i]-grad[i]
		}
		if sy := dot(s, y); sy > 1e-300 {
			moved, turned, scale = append(moved, s), append(turned, y), append(scale, 1/sy)
			if len(moved) > memory {
				moved, turned, scale = moved[1:], turned[1:], scale[1:]
			}
		}
		copy(x, next)
		copy(grad, nextGrad)
		if now-after < tolerance*math.Abs(now) {
			return
		}
		now = after
	}
}

func dot(a, b []float64) (s float64) {
	for i, v := range a {
		s += v * b[i]
	}
	return s
}

// add adds by·d to x.
func add(x []float64, by float64, d []float64) {
	for i, v := range d {
		x[i] += by * v
	}
}
