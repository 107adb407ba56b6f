package scaling

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var now = time.Date(2026, 11, 23, 20, 0, 0, 500, time.UTC)

func TestByHand(t *testing.T) {
	two, four := new(int32(2)), new(int32(4))
	at := func(s string) *metav1.Time {
		end, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return new(metav1.NewTime(end))
	}
	for _, tt := range []struct {
		name string
		in   ByHand
		want Spec
	}{
		{"both, for a while", ByHand{Min: two, Max: four, For: "3h", Reason: "Black Friday"},
			Spec{Windows: []Window{{Hold: Hold{Floor: two, Cap: four}}}, Until: at("2026-11-23T23:00:01Z"), Reason: "Black Friday"}},
		{"a floor alone, until", ByHand{Min: two, Until: "2026-11-24T00:00:00+02:00"},
			Spec{Windows: []Window{{Hold: Hold{Floor: two}}}, Until: at("2026-11-23T22:00:00Z")}},
		{"a cap alone, for good", ByHand{Max: four, Permanent: true}, Spec{Windows: []Window{{Hold: Hold{Cap: four}}}}},
		{"equal", ByHand{Min: four, Max: four, For: "1s"}, Spec{Windows: []Window{{Hold: Hold{Floor: four, Cap: four}}}, Until: at("2026-11-23T20:00:02Z")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := tt.in.Schedule("shop", "title", "uid 0", now)
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Service = "title"
			if diff := cmp.Diff(tt.want, s.Spec); diff != "" {
				t.Error(diff)
			}
			if s.Name != HandName("title") || s.Namespace != "shop" || s.Annotations[ByAnnotation] != "uid 0" || s.Kind != Kind {
				t.Errorf("%+v", s)
			}
			if s.Expired(now) || s.Spec.Until != nil && !s.Expired(s.Spec.Until.Time) {
				t.Errorf("expires at another time than %v", s.Spec.Until)
			}
		})
	}
}

func TestByHandRefuses(t *testing.T) {
	one, zero, minus, huge := new(int32(1)), new(int32(0)), new(int32(-1)), new(int32(MaxScale+1))
	for _, tt := range []struct {
		name string
		in   ByHand
		says []string
	}{
		{"nothing", ByHand{}, []string{"min and max", "for: say how long"}},
		{"negative numbers", ByHand{Min: minus, Max: minus, For: "1h"}, []string{"min: -1", "max: -1"}},
		{"too many", ByHand{Min: huge, Max: huge, For: "1h"}, []string{"min: 10001", "max: 10001"}},
		{"min above max", ByHand{Min: new(int32(2)), Max: one, For: "1h"}, []string{"min: 2 is above max, which is 1"}},
		{"max 0", ByHand{Min: zero, Max: zero, For: "1h"}, []string{"closed: true"}},
		{"no expiry", ByHand{Min: one}, []string{"permanent"}},
		{"two expiries", ByHand{Min: one, For: "1h", Permanent: true}, []string{"exclude each other"}},
		{"no duration", ByHand{Min: one, For: "three hours"}, []string{`"three hours"`}},
		{"a duration of nothing", ByHand{Min: one, For: "0s"}, []string{"over before it begins"}},
		{"a duration of longer than a year", ByHand{Min: one, For: "9000h"}, []string{"more than a year"}},
		{"no time", ByHand{Min: one, Until: "tomorrow"}, []string{`"tomorrow"`, "2026-11-27T18:00:00Z"}},
		{"the past", ByHand{Min: one, Until: "2026-11-23T19:59:59Z"}, []string{"until: 2026-11-23T19:59:59Z is past"}},
		{"now", ByHand{Min: one, Until: "2026-11-23T20:00:00Z"}, []string{"is past"}},
		{"a reason of two lines", ByHand{Min: one, For: "1h", Reason: "a\nb"}, []string{"reason"}},
		{"a long reason", ByHand{Min: one, For: "1h", Reason: strings.Repeat("a", MaxText+1)}, []string{"reason"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := tt.in.Schedule("shop", "title", "", now)
			if err == nil {
				t.Fatalf("makes %+v", s.Spec)
			}
			for _, says := range tt.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("%q does not say %q", err, says)
				}
			}
		})
	}
}
