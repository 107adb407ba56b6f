// Package ping sends the events of Knative's PingSources, on schedule.
//
// Guarantees: a tick's event has one id, whatever is killed or restarted and
// however often it is sent, so that a sink which knows ids takes it once. A
// tick whose sink does not take it is sent again, with longer and longer
// pauses. Ticks that were missed, since nothing ran, the clock jumped or the
// sink took nothing, are made up for by one: the latest of them, if it is not
// older than the source's starting deadline (a day, unless
// [StartingDeadline] says otherwise). A source that is new, or has another
// schedule, begins now. Daylight saving: see [cron.Schedule].
//
// One timer serves all sources, and there is none while there are no sources.
//
// Non-goals: ticks finer than a second, a history of ticks, @every (which
// Knative refuses as well).
package ping

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"

	"aisle.dev/aisle/activator/broker/cron"
	"aisle.dev/aisle/internal/event"
)

// StartingDeadline is the annotation of a PingSource that says how late a
// tick may still be sent, as Kubernetes' startingDeadlineSeconds: a duration
// such as 10m.
const StartingDeadline = "aisle.dev/starting-deadline"

const (
	defaultDeadline = 24 * time.Hour
	minDeadline     = 10 * time.Second // below it a busy machine would send nothing at all
	maxDeadline     = 31 * 24 * time.Hour
)

// Source is a PingSource, reduced to what sends its events.
type Source struct {
	Namespace, Name string
	Sink            duckv1.Destination
	Schedule        cron.Schedule
	Deadline        time.Duration // how late a tick may still be sent

	written string // the schedule as written: another one begins anew
	event   ce.Event
}

// New sets a PingSource's defaults, validates it by Knative's code and by
// what can be sent, and reduces it.
func New(ps *sourcesv1.PingSource) (*Source, error) {
	ps = ps.DeepCopy()
	ps.SetDefaults(context.Background())
	// The schedule first: Knative's validation panics on some.
	schedule, err := cron.Parse(ps.Spec.Schedule, ps.Spec.Timezone)
	if err != nil {
		return nil, fmt.Errorf("spec.schedule: %w", err)
	}
	if err := validate(ps); err != nil {
		return nil, err
	}
	s := &Source{
		Namespace: ps.Namespace, Name: ps.Name, Sink: ps.Spec.Sink,
		Schedule: schedule, Deadline: defaultDeadline,
		written: ps.Spec.Timezone + " " + ps.Spec.Schedule,
		event:   ce.New(ce.CloudEventsVersionV1),
	}
	if v, ok := ps.Annotations[StartingDeadline]; ok {
		d, err := time.ParseDuration(v)
		if err != nil || d < minDeadline || d > maxDeadline {
			return nil, fmt.Errorf("metadata.annotations[%s]: %q is not a duration from %s to %s, such as 10m", StartingDeadline, v, minDeadline, maxDeadline)
		}
		s.Deadline = d
	}
	if err := s.fill(ps); err != nil {
		return nil, err
	}
	return s, nil
}

// validate runs Knative's validation, in which hostile input can panic.
func validate(ps *sourcesv1.PingSource) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("spec: Knative's validation fails on it: %v", v)
		}
	}()
	if fe := ps.Validate(context.Background()); fe != nil {
		return errors.New(fe.Error())
	}
	return nil
}

// fill makes the event that every tick sends, all but its id and time, as
// Knative's adapter does.
func (s *Source) fill(ps *sourcesv1.PingSource) error {
	s.event.SetType(sourcesv1.PingSourceEventType)
	s.event.SetSource(sourcesv1.PingSourceSource(ps.Namespace, ps.Name))
	if o := ps.Spec.CloudEventOverrides; o != nil {
		for name, value := range o.Extensions {
			s.event.SetExtension(name, value)
		}
	}
	data := []byte(ps.Spec.Data)
	if ps.Spec.DataBase64 != "" {
		var err error
		if data, err = base64.StdEncoding.DecodeString(ps.Spec.DataBase64); err != nil {
			return fmt.Errorf("spec.dataBase64: %w", err)
		}
	}
	if len(data) > 0 {
		if err := s.event.SetData(ps.Spec.ContentType, data); err != nil {
			return fmt.Errorf("spec.data: %w", err)
		}
	}
	if err := s.Event(time.Unix(0, 0)).Validate(); err != nil {
		return fmt.Errorf("spec: its events would not be CloudEvents: %w", err)
	}
	return nil
}

// Key names the source among all: NAMESPACE/NAME.
func (s *Source) Key() string { return s.Namespace + "/" + s.Name }

// Event is what a tick sends. Its id says source and tick, its time is the
// tick's.
func (s *Source) Event(tick time.Time) ce.Event {
	ev := s.event.Clone()
	ev.SetID(event.ID("pingsource", s.Namespace, s.Name, tick.UTC().Format(time.RFC3339)))
	ev.SetTime(tick.UTC())
	return ev
}

// Mark is what is remembered of a source.
type Mark struct {
	Schedule string    `json:"schedule"` // to which it applies
	UpTo     time.Time `json:"upTo"`     // the ticks up to here are done with
}

// setBack is how far a mark may lie ahead of the clock. One that lies further
// ahead was made by a clock that has been put right since: without this a
// source would be silent until that time comes again.
const setBack = time.Hour

// resume is where a source goes on from what was remembered of it.
func (s *Source) resume(m Mark, now time.Time) Mark {
	if m.Schedule != s.written || m.UpTo.Sub(now) > setBack {
		return Mark{Schedule: s.written, UpTo: now.UTC()}
	}
	return m
}

// due is the tick to send now, if there is one: the latest that is neither
// done with nor too old.
func (s *Source) due(m Mark, now time.Time) (time.Time, bool) {
	from := m.UpTo
	if oldest := now.Add(-s.Deadline); from.Before(oldest) {
		from = oldest
	}
	return s.Schedule.Last(from, now)
}
