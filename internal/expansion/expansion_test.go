package expansion

import (
	"strings"
	"testing"
)

func known(name string) (string, bool) {
	v, ok := map[string]string{"A": "1", "B": "$(A)", "EMPTY": ""}[name]
	return v, ok
}

func TestExpand(t *testing.T) {
	for in, want := range map[string]string{
		"":                 "",
		"plain":            "plain",
		"$(A)":             "1",
		"-$(A)$(A)-":       "-11-",
		"$(B)":             "$(A)", // not expanded again
		"$(EMPTY)":         "",
		"$(UNKNOWN)":       "$(UNKNOWN)",
		"$$(A)":            "$(A)",
		"$$$(A)":           "$1",
		"$$":               "$",
		"$":                "$",
		"$A $ (A) $(A":     "$A $ (A) $(A",
		"$()":              "$()",
		"$(N":              "$(N",
		"$(A))":            "1)",
		"$(UNKNOWN$(A))":   "$(UNKNOWN$(A))",
		"it costs $5 $(A)": "it costs $5 1",
	} {
		if got := Expand(in, known); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("$(A) $$(A) $(")
	f.Fuzz(func(t *testing.T, s string) {
		got := Expand(s, known)
		if !strings.Contains(s, "$") && got != s {
			t.Error("changed without a reference")
		}
		if len(got) > 2*len(s) {
			t.Errorf("%q grew to %q", s, got)
		}
		// Dollar signs written twice are never references.
		if got := Expand(strings.ReplaceAll(s, "$", "$$"), known); got != s {
			t.Errorf("%q came back as %q", s, got)
		}
	})
}
