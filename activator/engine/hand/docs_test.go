package hand

import (
	"os"
	"regexp"
	"testing"

	"sigs.k8s.io/yaml"

	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"

	"aisle.dev/aisle/activator/broker/ping"
	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/internal/scaling"
)

// What people copy out of docs/scaling.md is right.
func TestExamplesInDocs(t *testing.T) {
	text, err := os.ReadFile("../../../docs/scaling.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1) {
		for _, doc := range regexp.MustCompile(`(?m)^---$`).Split(string(block[1]), -1) {
			var s scaling.ScalingSchedule
			var p sourcesv1.PingSource
			var head struct{ Kind string }
			err := yaml.Unmarshal([]byte(doc), &head)
			switch {
			case err != nil:
			case head.Kind == scaling.Kind:
				if err = yaml.UnmarshalStrict([]byte(doc), &s); err == nil {
					_, err = schedule.Compile(s.Name, &s.Spec)
				}
			case head.Kind == "PingSource":
				if err = yaml.UnmarshalStrict([]byte(doc), &p); err == nil {
					_, err = ping.New(&p)
				}
				var o order
				if err == nil {
					err = decode([]byte(p.Spec.Data), &o)
				}
			}
			if err != nil {
				t.Errorf("%v in\n%s", err, doc)
			}
			seen[head.Kind]++
		}
	}
	if seen[scaling.Kind] != 5 || seen["PingSource"] != 1 || len(seen) != 2 {
		t.Errorf("examples: %v", seen)
	}
}
