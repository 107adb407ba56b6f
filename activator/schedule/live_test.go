package schedule

import "testing"

func TestLive(t *testing.T) {
	for _, tt := range []struct {
		name         string
		shares       []Share
		want, byRule string
	}{
		{name: "no revision"},
		{name: "no request", shares: []Share{{"a", 0}}},
		{name: "one", shares: []Share{{"a", 100}}, want: "a", byRule: "100% of traffic, the largest share"},
		{name: "the larger, though older", shares: []Share{{"a", 60}, {"b", 40}}, want: "a", byRule: "60% of traffic, the largest share"},
		{name: "the newest of equals", shares: []Share{{"a", 40}, {"b", 40}, {"c", 20}, {"d", 0}}, want: "b", byRule: "40% of traffic; the newest of 2 with this largest share"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if live, rule := Live(tt.shares); live != tt.want || rule != tt.byRule {
				t.Errorf("%q, %q", live, rule)
			}
		})
	}
}
