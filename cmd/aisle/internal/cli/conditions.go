package cli

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"aisle.dev/aisle/internal/client"
)

// conditions are what an object's status says of it.
func conditions(o *unstructured.Unstructured) []client.Condition {
	all, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions") // none is none
	var views []client.Condition
	for _, c := range all {
		c, _ := c.(map[string]any)
		is := func(key string) string { s, _ := c[key].(string); return s }
		since, _ := time.Parse(time.RFC3339, is("lastTransitionTime")) // not every condition has one
		views = append(views, client.Condition{Type: is("type"), Status: is("status"), Reason: is("reason"), Message: is("message"), Since: since})
	}
	return views
}

// readiness is an object's Ready condition. It says nothing, and ok is false,
// where whoever makes it true has not looked at the object as it is now.
func readiness(o *unstructured.Unstructured) (ready client.Condition, ok bool) {
	seen, _, _ := unstructured.NestedInt64(o.Object, "status", "observedGeneration") // 0: not yet
	if seen < o.GetGeneration() {
		return client.Condition{}, false
	}
	for _, c := range conditions(o) {
		if c.Type == "Ready" {
			return c, true
		}
	}
	return client.Condition{}, false
}

// because is a condition's reason and message.
func because(c client.Condition) string {
	if c.Reason == "" || c.Message == "" {
		return c.Reason + c.Message
	}
	return c.Reason + ": " + c.Message
}
