package main

import (
	"strings"
	"testing"
)

func TestWithOurImages(t *testing.T) {
	got, err := withOurImages("image: ko://knative.dev/serving/cmd/queue\n  initialDelaySeconds: 20\n  periodSeconds: 10\n  periodSeconds: 100\n" +
		"resources:\n  requests:\n    # small\n    cpu: 300m\n    memory: 60Mi\n  limits:\n    cpu: 1000m\nimage: ko://knative.dev/eventing/cmd/jobsink\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"image: dev.local/queue:" + knativeVersion + "\n", "initialDelaySeconds: 1\n", "periodSeconds: 2\n", "periodSeconds: 100\n", "cpu: 10m\n", "cpu: 1000m\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if _, err := withOurImages("image: ko://knative.dev/serving/cmd/nobody"); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("a command that is not built: %v", err)
	}
}
