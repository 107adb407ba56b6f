package broker

import (
	"errors"
	"net/http"
	"testing"
	"time"

	duckv1 "knative.dev/eventing/pkg/apis/duck/v1"
)

func TestAfter(t *testing.T) {
	exponential, linear := duckv1.BackoffPolicyExponential, duckv1.BackoffPolicyLinear
	spec := func(retry int32, p *duckv1.BackoffPolicyType, delay, retryAfterMax string) *duckv1.DeliverySpec {
		d := &duckv1.DeliverySpec{Retry: &retry, BackoffPolicy: p}
		if delay != "" {
			d.BackoffDelay = &delay
		}
		if retryAfterMax != "" {
			d.RetryAfterMax = &retryAfterMax
		}
		return d
	}
	late := time.Minute
	tests := []struct {
		name    string
		spec    *duckv1.DeliverySpec
		attempt int
		status  int
		want    verdict
	}{
		{"no delivery spec: no retry", nil, 1, 500, verdict{dead: true}},
		{"the first retry waits one delay", spec(10, &exponential, "PT1S", ""), 1, 500, verdict{wait: time.Second}},
		{"the tenth 512", spec(10, &exponential, "PT1S", ""), 10, 500, verdict{wait: 512 * time.Second}},
		{"and there is no eleventh", spec(10, &exponential, "PT1S", ""), 11, 500, verdict{dead: true}},
		{"linear: the first retry at once", spec(10, &linear, "PT1S", ""), 1, 500, verdict{}},
		{"linear: the third after two", spec(10, &linear, "PT1S", ""), 3, 500, verdict{wait: 2 * time.Second}},
		{"a delay without a policy is none", spec(10, nil, "PT1S", ""), 3, 500, verdict{}},
		{"no answer", spec(1, &exponential, "PT1S", ""), 1, 0, verdict{wait: time.Second}},
		{"404", spec(1, &exponential, "PT1S", ""), 1, 404, verdict{wait: time.Second}},
		{"409", spec(1, &exponential, "PT1S", ""), 1, 409, verdict{wait: time.Second}},
		{"421: the engine has no such service now", spec(1, &exponential, "PT1S", ""), 1, 421, verdict{wait: time.Second}},
		{"400 is for good", spec(1, &exponential, "PT1S", ""), 1, 400, verdict{dead: true}},
		{"a redirect too", spec(1, &exponential, "PT1S", ""), 1, 302, verdict{dead: true}},
		{"Retry-After without retryAfterMax", spec(1, &exponential, "PT1S", ""), 1, 503, verdict{wait: time.Second}},
		{"Retry-After", spec(1, &exponential, "PT1S", "PT2M"), 1, 503, verdict{wait: late}},
		{"at most retryAfterMax", spec(1, &exponential, "PT1S", "PT10S"), 1, 429, verdict{wait: 10 * time.Second}},
		{"PT0S: not", spec(1, &exponential, "PT1S", "PT0S"), 1, 429, verdict{wait: time.Second}},
		{"of 429 and 503 alone", spec(1, &exponential, "PT1S", "PT2M"), 1, 500, verdict{wait: time.Second}},
		{"exponents end at a day", spec(1000, &exponential, "PT1S", ""), 999, 500, verdict{wait: maxBackoff}},
		{"of no delay too", spec(5000, &exponential, "PT0S", ""), 4999, 500, verdict{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := newPolicy(tt.spec)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.after(tt.attempt, outcome{status: tt.status, retryAfter: late, err: errors.New("x")}); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0,
		now.Add(time.Hour).Format(http.TimeFormat): time.Hour, now.Add(-time.Hour).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {s}}, now); got != want {
			t.Errorf("Retry-After: %s is %v, want %v", s, got, want)
		}
	}
}

func TestUnstoredWait(t *testing.T) {
	for _, tt := range []struct {
		attempt int
		chance  float64
		want    time.Duration
	}{
		{1, 0, 5 * time.Second}, {1, 1, 2500 * time.Millisecond}, {3, 0, 20 * time.Second}, {7, 0, maxUnstored}, {1 << 40, 1, maxUnstored / 2},
	} {
		if got := unstoredWait(tt.attempt, tt.chance); got != tt.want {
			t.Errorf("attempt %d, chance %v: %v, want %v", tt.attempt, tt.chance, got, tt.want)
		}
	}
}
