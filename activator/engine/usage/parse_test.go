package usage

import "testing"

// Whatever is in a file, it is refused or makes sense.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", "{}", `{"day":"2026-11-23"}`,
		`{"day":"2026-11-23","services":{"default/title":{"pods":5,"gpus":0,"declared":7,"declaredGPUs":0,"peak":1,"floor":0,"peakFloor":0}}}`,
		`{"day":"2026-11-23","services":{"a":{"pods":1e400}}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		services, err := parse(text, "2026-11-23")
		if err != nil && services != nil {
			t.Fatal("refused, and given all the same")
		}
		for _, a := range services {
			if sum := a.plus(a); sum.Pods < 0 || sum.GPUs < 0 || sum.Declared < 0 || sum.DeclaredGPUs < 0 || sum.Floor < 0 {
				t.Errorf("%+v", a)
			}
		}
	})
}
