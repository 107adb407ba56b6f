package controller

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/activator/schedule"
)

// live is the Revision that gets the bounds, nil where there is none, and the
// rule by which it does.
func live(traffic []servingv1.TrafficTarget, revisions map[string]*metav1.PartialObjectMetadata) (*metav1.PartialObjectMetadata, string) {
	var shares []schedule.Share
	for _, r := range slices.SortedFunc(maps.Values(revisions), newer) {
		s := schedule.Share{Revision: r.Name}
		for _, t := range traffic { // a Revision may be named several times, by tags
			if t.RevisionName == r.Name && t.Percent != nil {
				s.Percent += *t.Percent
			}
		}
		shares = append(shares, s)
	}
	name, rule := schedule.Live(shares)
	return revisions[name], rule
}

// newer compares the age of two Revisions of a Service. Their times are whole
// seconds; the number that Knative gives them is exact.
func newer(a, b *metav1.PartialObjectMetadata) int {
	number := func(r *metav1.PartialObjectMetadata) int {
		n, _ := strconv.Atoi(r.Labels[serving.ConfigurationGenerationLabelKey])
		return n
	}
	return cmp.Or(cmp.Compare(number(a), number(b)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}
