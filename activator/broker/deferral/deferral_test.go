package deferral

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func at(t testing.TB, s string) time.Time {
	t.Helper()
	if s == "" {
		return time.Time{}
	}
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDecide(t *testing.T) {
	night := map[string]string{UntilAnnotation: "22:00 Europe/Berlin"}
	gpu := map[string]string{BacklogAnnotation: "100", MaxAgeAnnotation: "4h"}
	tests := []struct {
		name        string
		annotations map[string]string
		now         string
		waiting     int
		oldest      string
		expiry      string
		full        bool
		next        string // "": released
		why         string
	}{
		{name: "before the time of day", annotations: night, now: "2026-11-23T20:59:59Z", waiting: 1, oldest: "2026-11-23T08:00:00Z",
			next: "2026-11-23T21:00:00Z", why: "for 22:00 Europe/Berlin"},
		{name: "at the time of day", annotations: night, now: "2026-11-23T21:00:00Z", waiting: 1, oldest: "2026-11-23T08:00:00Z", why: "it is 22:00 Europe/Berlin"},
		{name: "it came when nothing ran", annotations: night, now: "2026-11-25T12:00:00Z", waiting: 1, oldest: "2026-11-23T08:00:00Z", why: "22:00"},
		{name: "after the time of day: the next one", annotations: night, now: "2026-11-23T22:00:00Z", waiting: 1, oldest: "2026-11-23T21:00:00Z",
			next: "2026-11-24T21:00:00Z", why: "22:00"},
		{name: "a time of day that the clock leaves out", annotations: map[string]string{UntilAnnotation: "02:30 Europe/Berlin"},
			now: "2026-03-29T00:00:00Z", waiting: 1, oldest: "2026-03-28T12:00:00Z", next: "2026-03-29T01:00:00Z", why: "02:30"},
		{name: "too few", annotations: gpu, now: "2026-11-23T10:00:00Z", waiting: 99, oldest: "2026-11-23T08:00:00Z",
			next: "2026-11-23T12:00:00Z", why: "for 100 events, or until the oldest is 4h old"},
		{name: "enough", annotations: gpu, now: "2026-11-23T10:00:00Z", waiting: 100, oldest: "2026-11-23T08:00:00Z", why: "100 events wait, of 100"},
		{name: "old enough", annotations: gpu, now: "2026-11-23T12:00:00Z", waiting: 1, oldest: "2026-11-23T08:00:00Z", why: "4h old"},
		{name: "one expires before", annotations: gpu, now: "2026-11-23T10:00:00Z", waiting: 3, oldest: "2026-11-23T08:00:00Z", expiry: "2026-11-23T11:00:00Z",
			next: "2026-11-23T10:59:00Z", why: "4h old"},
		{name: "time to answer it", annotations: gpu, now: "2026-11-23T10:59:00Z", waiting: 3, oldest: "2026-11-23T08:00:00Z", expiry: "2026-11-23T11:00:00Z",
			why: "expires at 2026-11-23T11:00:00Z, and its answer takes 1m"},
		{name: "its answer takes long", annotations: map[string]string{MaxAgeAnnotation: "4h", AnswerAnnotation: "30m"}, now: "2026-11-23T10:30:00Z", waiting: 3,
			oldest: "2026-11-23T08:00:00Z", expiry: "2026-11-23T11:00:00Z", why: "its answer takes 30m"},
		{name: "expired already", annotations: gpu, now: "2026-11-23T10:00:00Z", waiting: 3, oldest: "2026-11-23T08:00:00Z", expiry: "2026-11-23T09:00:00Z", why: "expires"},
		{name: "a backlog alone waits a day", annotations: map[string]string{BacklogAnnotation: "2"}, now: "2026-11-23T10:00:00Z", waiting: 1, oldest: "2026-11-23T08:00:00Z",
			next: "2026-11-24T08:00:00Z", why: "24h"},
		{name: "the store is full", annotations: gpu, now: "2026-11-23T10:00:00Z", waiting: 1, oldest: "2026-11-23T09:59:00Z", full: true, why: "nearly full"},
		{name: "the clock was set back", annotations: gpu, now: "2026-11-23T07:00:00Z", waiting: 1, oldest: "2026-11-23T08:00:00Z",
			next: "2026-11-23T12:00:00Z", why: "4h old"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Parse(tt.annotations)
			if err != nil {
				t.Fatal(err)
			}
			d := p.Decide(at(t, tt.now), Snapshot{Waiting: tt.waiting, Oldest: at(t, tt.oldest), Expiry: at(t, tt.expiry), Full: tt.full})
			if d.Release != (tt.next == "") || !d.Next.Equal(at(t, tt.next)) || !strings.Contains(d.Why, tt.why) {
				t.Errorf("decided %+v, want next %q, why %q", d, tt.next, tt.why)
			}
		})
	}
}

func TestNothingWaits(t *testing.T) {
	p, err := Parse(map[string]string{MaxAgeAnnotation: "1h"})
	if err != nil {
		t.Fatal(err)
	}
	if d := p.Decide(at(t, "2026-11-23T10:00:00Z"), Snapshot{Full: true}); d.Release || !d.Next.IsZero() {
		t.Errorf("decided %+v", d)
	}
}

func TestParse(t *testing.T) {
	if p, err := Parse(map[string]string{"aisle.dev/other": "1"}); p != nil || err != nil {
		t.Errorf("without an annotation about it: %v, %v", p, err)
	}
	refused := []struct{ name, annotation, value, says string }{
		{"a time that is none", UntilAnnotation, "25:00 UTC", "time of day"},
		{"no zone", UntilAnnotation, "22:00", "names no time zone"},
		{"an unknown zone", UntilAnnotation, "22:00 Europe/Atlantis", "IANA"},
		{"no number", BacklogAnnotation, "many", "number of events"},
		{"none", BacklogAnnotation, "0", "number of events"},
		{"no duration", MaxAgeAnnotation, "4", "duration"},
		{"backwards", MaxAgeAnnotation, "-4h", "duration"},
		{"for ever", MaxAgeAnnotation, "9000h", "duration"},
		{"an answer alone", AnswerAnnotation, "5m", "beside it"},
		{"misspelt", Prefix + "untill", "22:00 UTC", "there is no such annotation; there are aisle.dev/defer-answer-within"},
	}
	for _, tt := range refused {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(map[string]string{tt.annotation: tt.value})
			if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), tt.annotation) {
				t.Errorf("%v; want it to name the annotation and to say %q", err, tt.says)
			}
		})
	}
}

// TestDecideProperties: nothing waits past what was declared, a release is not
// taken back as time goes on or as more comes, and Next is when it comes.
func TestDecideProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := map[string]string{}
		if rapid.Bool().Draw(t, "until") {
			a[UntilAnnotation] = rapid.SampledFrom([]string{"22:00 Europe/Berlin", "02:30 America/New_York", "00:00 UTC"}).Draw(t, "time")
		}
		if rapid.Bool().Draw(t, "backlog") {
			a[BacklogAnnotation] = rapid.SampledFrom([]string{"1", "2", "10"}).Draw(t, "events")
		}
		if len(a) == 0 || rapid.Bool().Draw(t, "age") {
			a[MaxAgeAnnotation] = rapid.SampledFrom([]string{"1s", "1h", "48h"}).Draw(t, "max")
		}
		a[AnswerAnnotation] = rapid.SampledFrom([]string{"0s", "1m", "2h"}).Draw(t, "answer")
		p, err := Parse(a)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Date(2026, 3, 28, 0, 0, 0, 0, time.UTC)
		moment := func(name string) time.Time {
			return start.Add(time.Duration(rapid.IntRange(0, 3*24*3600).Draw(t, name)) * time.Second)
		}
		var s Snapshot
		for range rapid.IntRange(1, 12).Draw(t, "waiting") {
			var expiry time.Time
			if rapid.Bool().Draw(t, "expires") {
				expiry = moment("expiry")
			}
			s.Add(moment("accepted"), expiry)
		}
		now := moment("now")
		d := p.Decide(now, s)
		if !s.Expiry.IsZero() && !d.Release && d.Next.After(s.Expiry.Add(-p.answer)) {
			t.Fatalf("%+v of %+v waits past the time that its answer needs", d, s)
		}
		if d.Release {
			more := s
			more.Add(now, time.Time{})
			if !p.Decide(now.Add(time.Hour), s).Release || !p.Decide(now, more).Release {
				t.Fatalf("the release %+v is taken back", d)
			}
			return
		}
		if !d.Next.After(now) {
			t.Fatalf("at %s it waits until %s", now, d.Next)
		}
		if p.Decide(d.Next.Add(-1), s).Release || !p.Decide(d.Next, s).Release {
			t.Fatalf("it is not released at %s", d.Next)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("22:00 Europe/Berlin", "500", "4h", "1m")
	f.Add("2:5 UTC", "-1", "9e9h", "")
	f.Fuzz(func(t *testing.T, until, backlog, age, answer string) {
		p, err := Parse(map[string]string{UntilAnnotation: until, BacklogAnnotation: backlog, MaxAgeAnnotation: age, AnswerAnnotation: answer})
		if err != nil {
			return
		}
		now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		if d := p.Decide(now, Snapshot{Waiting: 1, Oldest: now}); !d.Release && (!d.Next.After(now) || d.Next.Sub(now) > 26*time.Hour) {
			t.Fatalf("%s: %+v", p, d)
		}
	})
}
