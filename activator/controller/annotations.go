package controller

import (
	"encoding/json"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/serving/pkg/apis/autoscaling"

	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/internal/scaling"
)

// foundOn reads a Revision's own bounds, under the spelling of the keys that it
// uses: Knative knows several, and goes by the first that is there.
func foundOn(r *metav1.PartialObjectMetadata) scaling.Found {
	f := scaling.Found{Revision: r.Name}
	if key, value, ok := autoscaling.MinScaleAnnotation.Get(r.Annotations); ok {
		f.MinKey, f.Min = key, value
	}
	if key, value, ok := autoscaling.MaxScaleAnnotation.Get(r.Annotations); ok {
		f.MaxKey, f.Max = key, value
	}
	return f
}

// base is what was found as numbers. What is no number was never a bound:
// Knative refuses it.
func base(f scaling.Found) schedule.Base {
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			return 0
		}
		return max(n, 0)
	}
	return schedule.Base{Min: number(f.Min), Max: number(f.Max)}
}

// annotations are values by key; nil: the key is not there.
type annotations map[string]*string

// before are the annotations as they were found.
func before(f scaling.Found) annotations {
	value := func(key, v string) *string {
		if key == "" {
			return nil
		}
		return &v
	}
	minKey, maxKey := keys(f)
	return annotations{minKey: value(f.MinKey, f.Min), maxKey: value(f.MaxKey, f.Max)}
}

func keys(f scaling.Found) (minKey, maxKey string) {
	minKey, maxKey = f.MinKey, f.MaxKey
	if minKey == "" {
		minKey = autoscaling.MinScaleAnnotationKey
	}
	if maxKey == "" {
		maxKey = autoscaling.MaxScaleAnnotationKey
	}
	return minKey, maxKey
}

// wanted are the annotations that make bounds hold. A bound that is the
// Revision's own is left as it was written. While a service is closed nothing
// keeps its pods, so its floor is written as 0: without one the cluster's own
// min-scale (config-autoscaler) would hold.
func wanted(f scaling.Found, b schedule.Bounds) annotations {
	own, want := base(f), before(f)
	minKey, maxKey := keys(f)
	if b.Floor != own.Min || (b.Closed && b.Floor == 0) {
		want[minKey] = new(strconv.Itoa(b.Floor))
	}
	if b.Cap != own.Max {
		want[maxKey] = new(strconv.Itoa(b.Cap))
	}
	return want
}

// are says whether a Revision has the annotations.
func (a annotations) are(on map[string]string) bool {
	for key, want := range a {
		if is, ok := on[key]; ok != (want != nil) || (ok && is != *want) {
			return false
		}
	}
	return true
}

func (a annotations) equal(b annotations) bool {
	for key, v := range a {
		if w := b[key]; (v == nil) != (w == nil) || (v != nil && *v != *w) {
			return false
		}
	}
	return true
}

// patch is the merge patch that sets them and nothing else. With a version it
// fails with a conflict on a Revision that is not of that version any more.
func (a annotations) patch(version string) ([]byte, error) {
	meta := map[string]any{"annotations": map[string]*string(a)}
	if version != "" {
		meta["resourceVersion"] = version
	}
	return json.Marshal(map[string]any{"metadata": meta})
}
