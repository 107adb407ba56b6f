package prometheus

import "testing"

// Whatever answers, it is refused or makes sense.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", "{}", `{"status":"success","data":{"resultType":"vector","result":[]}}`,
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"service":"a"},"value":[1,"2"]}]}}`,
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"service":"a"},"value":[1,"NaN"]},null]}}`,
		`{"status":"error"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		found, err := parse(text)
		if err != nil && found != nil {
			t.Fatal("refused, and given all the same")
		}
		for at, v := range found {
			if at.name == "" || !(v >= 0) {
				t.Errorf("%+v: %v", at, v)
			}
		}
	})
}
