//go:build !turbo

package imaging

// Turbo says whether this build reads JPEGs with libjpeg-turbo.
const Turbo = false

// turbo is libjpeg-turbo's part, which this build is without.
func turbo([]float32, []byte, header, layout) bool { return false }
