// Package deferral decides how long the events of a Trigger are held back.
//
// A Trigger says by its annotations what its events wait for: a time of day,
// a backlog that is worth waking its subscriber for, an age. Whichever comes
// first lets all go that wait then. An event with the attribute expirytime is
// let go early enough to be answered before that time, and all others with it.
//
// The decision is pure and depends on nothing but what is stored: a restart
// changes none. What a Trigger's events wait for is never an event to come
// alone: a backlog without anything else has an age beside it, of a day.
//
// Non-goals: holding back single events, other Triggers, or requests.
package deferral

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"aisle.dev/aisle/activator/broker/cron"
)

// The annotations of a Trigger.
const (
	Prefix = "aisle.dev/defer-"

	UntilAnnotation   = Prefix + "until"         // a time of day and its zone: "22:00 Europe/Berlin"
	BacklogAnnotation = Prefix + "backlog"       // a number of events
	MaxAgeAnnotation  = Prefix + "max-age"       // of the oldest event: a duration such as 4h
	AnswerAnnotation  = Prefix + "answer-within" // how long an answer takes, a wake-up included: a duration; a minute unless it is said
)

const (
	defaultAge    = 24 * time.Hour // of a backlog that nothing else is said with
	defaultAnswer = time.Minute
	maxDuration   = 31 * 24 * time.Hour
	maxBacklog    = 1_000_000_000
)

// Policy is what a Trigger's annotations say.
type Policy struct {
	until   *cron.Schedule
	written string        // until, as people read it
	backlog int           // 0: none
	maxAge  time.Duration // 0: none
	answer  time.Duration
}

// Parse reads a Trigger's annotations; nil if none is about deferral.
func Parse(annotations map[string]string) (*Policy, error) {
	p := &Policy{answer: defaultAnswer}
	readers := map[string]func(string) error{
		UntilAnnotation: p.readUntil,
		BacklogAnnotation: func(v string) (err error) {
			if p.backlog, err = strconv.Atoi(v); err != nil || p.backlog < 1 || p.backlog > maxBacklog {
				return fmt.Errorf("%.40q is not a number of events from 1 to %d", v, maxBacklog)
			}
			return nil
		},
		MaxAgeAnnotation: func(v string) (err error) {
			p.maxAge, err = readDuration(v, time.Second)
			return err
		},
		AnswerAnnotation: func(v string) (err error) {
			p.answer, err = readDuration(v, 0)
			return err
		},
	}
	var errs []error
	found := false
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		if !strings.HasPrefix(name, Prefix) {
			continue
		}
		found = true
		read := readers[name]
		if read == nil {
			read = func(string) error {
				return fmt.Errorf("there is no such annotation; there are %s", strings.Join(slices.Sorted(maps.Keys(readers)), ", "))
			}
		}
		if err := read(annotations[name]); err != nil {
			errs = append(errs, fmt.Errorf("annotations[%s]: %w", name, err))
		}
	}
	if err := errors.Join(errs...); err != nil || !found {
		return nil, err
	}
	if p.until == nil && p.maxAge == 0 {
		if p.backlog == 0 {
			return nil, fmt.Errorf("annotations[%s]: it says nothing about what events wait for; use %s, %s or %s beside it", AnswerAnnotation, UntilAnnotation, BacklogAnnotation, MaxAgeAnnotation)
		}
		p.maxAge = defaultAge
	}
	return p, nil
}

// readUntil reads "22:00 Europe/Berlin".
func (p *Policy) readUntil(v string) error {
	clock, zone, _ := strings.Cut(strings.TrimSpace(v), " ")
	at, err := time.Parse("15:04", clock)
	if err != nil {
		return fmt.Errorf("%.80q does not begin with a time of day; write it as \"22:00 Europe/Berlin\"", v)
	}
	if zone = strings.TrimSpace(zone); zone == "" {
		return fmt.Errorf("%.80q names no time zone; write it as \"%s Europe/Berlin\", or with UTC", v, clock)
	}
	s, err := cron.Parse(fmt.Sprintf("%d %d * * *", at.Minute(), at.Hour()), zone)
	if err != nil {
		return err
	}
	p.until, p.written = &s, at.Format("15:04")+" "+zone
	return nil
}

func readDuration(v string, least time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d < least || d > maxDuration {
		return 0, fmt.Errorf("%.40q is not a duration from %s to %s, such as 30m", v, least, maxDuration)
	}
	return d, nil
}

// String says what events wait for.
func (p *Policy) String() string {
	var or []string
	if p.until != nil {
		or = append(or, "for "+p.written)
	}
	if p.backlog > 0 {
		or = append(or, fmt.Sprintf("for %d events", p.backlog))
	}
	if p.maxAge > 0 {
		or = append(or, fmt.Sprintf("until the oldest is %s old", short(p.maxAge)))
	}
	return strings.Join(or, ", or ")
}

// short is a duration without the zeros at its end: 4h, not 4h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-len("0s")]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-len("0m")]
	}
	return s
}

// Snapshot is what waits for a Trigger.
type Snapshot struct {
	Waiting int       // events that it takes
	Oldest  time.Time // when the first of them was accepted
	Expiry  time.Time // the earliest expirytime among them; zero: none has one
	Full    bool      // the store needs room, and what waits takes it
}

// Add counts one event more.
func (s *Snapshot) Add(accepted, expiry time.Time) {
	s.Waiting++
	if s.Oldest.IsZero() || accepted.Before(s.Oldest) {
		s.Oldest = accepted
	}
	if !expiry.IsZero() && (s.Expiry.IsZero() || expiry.Before(s.Expiry)) {
		s.Expiry = expiry
	}
}

// Decision is what to do with what waits.
type Decision struct {
	Release bool
	Next    time.Time // when it will be released if nothing more comes; zero: nothing waits, or it is
	Why     string
}

// Decide says whether all that waits is to be delivered now.
func (p *Policy) Decide(now time.Time, s Snapshot) Decision {
	if s.Waiting == 0 {
		return Decision{Why: "nothing waits"}
	}
	if s.Full {
		return Decision{Release: true, Why: "the Broker's store is nearly full"}
	}
	if p.backlog > 0 && s.Waiting >= p.backlog {
		return Decision{Release: true, Why: fmt.Sprintf("%d events wait, of %d that are worth it", s.Waiting, p.backlog)}
	}
	var next time.Time
	why := ""
	earlier := func(at time.Time, reason string) {
		if next.IsZero() || at.Before(next) {
			next, why = at, reason
		}
	}
	if p.until != nil {
		earlier(p.until.Next(s.Oldest), "it is "+p.written)
	}
	if p.maxAge > 0 {
		earlier(s.Oldest.Add(p.maxAge), "the oldest event is "+short(p.maxAge)+" old")
	}
	if !s.Expiry.IsZero() {
		earlier(s.Expiry.Add(-p.answer), "an event expires at "+s.Expiry.UTC().Format(time.RFC3339)+", and its answer takes "+short(p.answer))
	}
	if !now.Before(next) {
		return Decision{Release: true, Why: why}
	}
	return Decision{Next: next, Why: p.String()}
}
