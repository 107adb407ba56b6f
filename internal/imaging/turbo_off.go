//go:build !turbo

package imaging

// turbo is libjpeg-turbo's part, which this build is without.
func turbo([]float32, []byte, header, layout) bool { return false }
