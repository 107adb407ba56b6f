package composition

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const gated = `apiVersion: aisle.dev/v1alpha1
kind: Composition
metadata: {name: products}
spec:
  legs:
    - {name: last, service: last, when: legs.photo.failed && legs.title.failed}
    - {name: photo, service: photo, when: legs.title.confidence < 0.9}
    - {name: title, service: title}
    - {name: new, service: new, shadow: true, when: legs.photo.answered}
  reducer: {type: vote}
  rules:
    - {name: watches, when: 'product.brand == "X" && legs.title.label != ""', forbid: [Watches]}
`

func TestGates(t *testing.T) {
	c := parsed(t, gated)
	var after [][]int
	for _, l := range c.Legs {
		after = append(after, l.After)
	}
	if diff := cmp.Diff([][]int{{1, 2}, {2}, nil, {1}}, after); diff != "" {
		t.Error(diff)
	}
	if got := c.Legs[1].When.String(); got != "legs.title.confidence < 0.9" {
		t.Errorf("%q", got)
	}
}

func TestGatesThatAreWrong(t *testing.T) {
	for _, tt := range []struct{ name, old, new, want string }{
		{"no CEL", "legs.title.confidence < 0.9", "legs.title.confidence <", "line 7, column 43: spec.legs[1].when: column 24: the expression ends too early"},
		{"unknown leg", "legs.title.confidence", "legs.titel.confidence", `there is no leg "titel"`},
		{"itself", "legs.title.confidence", "legs.photo.confidence", "leg photo waits for photo, and that in the end for itself"},
		{"a circle", "{name: title, service: title}", "{name: title, service: title, when: legs.last.failed}", "line 8"},
		{"a shadow", "legs.title.confidence < 0.9", "legs.new.failed", "it mentions the shadow leg new, which is never waited for"},
		{"empty", "when: legs.photo.answered", `when: ""`, "the expression is empty"},
		{"a rule about a shadow", `legs.title.label != ""`, "legs.new.failed", `there is no leg "new"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(strings.Replace(gated, tt.old, tt.new, 1)), fstest.MapFS{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v\nwant %q", err, tt.want)
			}
		})
	}
}
