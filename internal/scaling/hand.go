package scaling

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MaxFor is how long bounds set by hand may hold that are not permanent.
const MaxFor = 366 * 24 * time.Hour

// ByHand is bounds as somebody sets them, by the API, the command line or an
// event. They take the place of what was set by hand before.
//
// +kubebuilder:object:generate=false
type ByHand struct {
	// Min and Max are the least and the greatest number of pods; nil: as ever.
	Min *int32 `json:"min,omitempty"`
	Max *int32 `json:"max,omitempty"`
	// One of these says how long it holds: a duration such as "3h", a time of RFC
	// 3339, or that it is permanent.
	For       string `json:"for,omitempty"`
	Until     string `json:"until,omitempty"`
	Permanent bool   `json:"permanent,omitempty"`
	// Reason says why, for who reads it later.
	Reason string `json:"reason,omitempty"`
}

// Schedule is the ScalingSchedule that sets them from now on; by says who does.
// Its error names all fields that are wrong, and what to do.
func (h ByHand) Schedule(namespace, service, by string, now time.Time) (*ScalingSchedule, error) {
	var wrong []string
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if h.Min == nil && h.Max == nil {
		bad("min and max are both left away: give one of them")
	}
	if h.Min != nil && (*h.Min < 0 || *h.Min > MaxScale) {
		bad("min: %d is not a number of pods from 0 to %d", *h.Min, MaxScale)
	}
	switch {
	case h.Max == nil:
	case *h.Max == 0:
		bad("max: 0 would be no limit at all in Knative; to take no requests use a ScalingSchedule with a window that says closed: true")
	case *h.Max < 0 || *h.Max > MaxScale:
		bad("max: %d is not a number of pods from 1 to %d", *h.Max, MaxScale)
	case h.Min != nil && *h.Min > *h.Max:
		bad("min: %d is above max, which is %d", *h.Min, *h.Max)
	}
	until, err := h.until(now)
	if err != nil {
		bad("%s", err)
	}
	if len(h.Reason) > MaxText || strings.ContainsFunc(h.Reason, unicode.IsControl) {
		bad("reason: at most %d bytes on one line", MaxText)
	}
	if len(wrong) > 0 {
		return nil, errors.New(strings.Join(wrong, "; "))
	}
	return &ScalingSchedule{
		TypeMeta:   metav1.TypeMeta{APIVersion: GroupVersion.String(), Kind: Kind},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: HandName(service), Annotations: map[string]string{ByAnnotation: by, AtAnnotation: now.UTC().Format(time.RFC3339Nano)}},
		Spec:       Spec{Service: service, Windows: []Window{{Hold: Hold{Floor: h.Min, Cap: h.Max}}}, Until: until, Reason: h.Reason},
	}, nil
}

// until is when they expire, to the second; nil: never.
func (h ByHand) until(now time.Time) (*metav1.Time, error) {
	given := 0
	for _, is := range []bool{h.For != "", h.Until != "", h.Permanent} {
		if is {
			given++
		}
	}
	switch {
	case given == 0:
		return nil, errors.New("for: say how long it holds, such as 3h; or until when; or permanent")
	case given > 1:
		return nil, errors.New("for, until and permanent exclude each other: give one")
	case h.Permanent:
		return nil, nil
	}
	field, text := "for", h.For
	var end time.Time
	if h.For != "" {
		d, err := time.ParseDuration(h.For)
		if err != nil {
			return nil, fmt.Errorf("for: %.40q is not a duration such as 3h or 90m", h.For)
		}
		if d <= 0 {
			return nil, fmt.Errorf("for: %s is over before it begins", h.For)
		}
		end = now.Add(d).Add(time.Second - 1) // never shorter than was asked for
	} else {
		var err error
		field, text = "until", h.Until
		if end, err = time.Parse(time.RFC3339, h.Until); err != nil {
			return nil, fmt.Errorf("until: %.40q is not a time such as 2026-11-27T18:00:00Z", h.Until)
		}
	}
	end = end.UTC().Truncate(time.Second)
	switch {
	case !end.After(now):
		return nil, fmt.Errorf("%s: %s is past: it is %s now", field, text, now.UTC().Format(time.RFC3339))
	case end.Sub(now) > MaxFor+time.Second:
		return nil, fmt.Errorf("%s: %s is more than a year away; say permanent if that is meant", field, text)
	}
	return new(metav1.NewTime(end)), nil
}

// Expired is whether a schedule bounds nothing any more.
func (s *ScalingSchedule) Expired(now time.Time) bool {
	return s.Spec.Until != nil && !now.Before(s.Spec.Until.Time)
}
