package controller

import (
	"cmp"
	"fmt"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

// live picks the Revision that gets the bounds, by where requests go now, and
// says by which rule: the largest share of traffic; among equal shares the
// newest. It is nil where no request goes to any of them.
func live(traffic []servingv1.TrafficTarget, revisions map[string]*metav1.PartialObjectMetadata) (*metav1.PartialObjectMetadata, string) {
	shares := map[string]int64{} // a Revision may be named several times, by tags
	for _, t := range traffic {
		if t.Percent != nil && revisions[t.RevisionName] != nil {
			shares[t.RevisionName] += *t.Percent
		}
	}
	var best *metav1.PartialObjectMetadata
	alike := 0
	for name, share := range shares {
		if share == 0 {
			continue
		}
		r := revisions[name]
		switch {
		case best == nil || share > shares[best.Name]:
			best, alike = r, 1
		case share == shares[best.Name]:
			alike++
			if newer(r, best) > 0 {
				best = r
			}
		}
	}
	switch {
	case best == nil:
		return nil, ""
	case alike > 1:
		return best, fmt.Sprintf("%d%% of traffic; the newest of %d with this largest share", shares[best.Name], alike)
	default:
		return best, fmt.Sprintf("%d%% of traffic, the largest share", shares[best.Name])
	}
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
