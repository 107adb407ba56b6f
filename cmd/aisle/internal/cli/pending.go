package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/objects"
	"aisle.dev/aisle/internal/problem"
)

// eventsNamed is whether get is asked for events.
func eventsNamed(kind string) bool {
	switch strings.ToLower(kind) {
	case "events", "event", "ev":
		return true
	}
	return false
}

// teller is a place that knows of events about objects.
type teller interface {
	Events(ctx context.Context) ([]client.Event, error)
}

// getEvents lists what waits at the brokers of this machine, or what a cluster's
// controllers told.
func (a *app) getEvents(ctx context.Context, g getting, names []string) error {
	if len(names) > 0 || g.selector != "" {
		return usagef("events have no names and labels to choose by; of one object they are in: aisle describe KIND NAME")
	}
	if g.format == "name" {
		return usagef("-o name is of objects; use table, json or yaml")
	}
	p, err := a.place()
	if err != nil {
		return err
	}
	every, listing := refresh, func() ([]byte, string, error) { return nil, "", nil }
	switch place := p.(type) {
	case *client.Engine:
		listing = func() ([]byte, string, error) {
			all, err := place.Pending(ctx)
			return a.eventsListing(g, append([]client.Pending{}, all...), pendingColumns, pendingRows(all, time.Now), "no event waits", err)
		}
	case teller:
		if g.pending {
			_, err := a.eventsAt()
			return err
		}
		every, listing = clusterRefresh, func() ([]byte, string, error) {
			all, err := place.Events(ctx)
			return a.eventsListing(g, append([]client.Event{}, all...), clusterEventColumns, clusterEventRows(all, time.Now), "no events"+a.where(p), err)
		}
	}
	if g.watch {
		return a.redraw(ctx, every, listing)
	}
	text, _, err := listing()
	if err != nil {
		return err
	}
	_, err = a.out.Write(text)
	return err
}

// eventsListing renders a list; key is what of it is worth telling a change of.
func (a *app) eventsListing(g getting, all any, columns []screen.Column, rows [][]screen.Cell, nothing string, err error) (text []byte, key string, _ error) {
	if err != nil {
		return nil, "", err
	}
	var buf strings.Builder
	for _, row := range rows {
		for i, c := range columns {
			if !unsteady[c.Name] {
				key += row[i].Text + "\x00"
			}
		}
	}
	s := a.out
	s.Writer = &buf
	switch {
	case !g.table():
		err := writeAs(&buf, g.format, all)
		return []byte(buf.String()), key, err
	case len(rows) == 0:
		s.Printf("%s\n", nothing)
	default:
		columns, rows = known(columns, rows)
		screen.Write(s, columns, rows)
	}
	return []byte(buf.String()), key, nil
}

var pendingColumns = left("TRIGGER", "BROKER", ">EVENTS", ">RETRYING", ">OLDEST", ">AT THE LATEST IN", "WAITS FOR")

func pendingRows(all []client.Pending, now func() time.Time) [][]screen.Cell {
	var rows [][]screen.Cell
	for _, p := range all {
		until := unknown
		if !p.Until.IsZero() {
			until = screen.Cell{Text: screen.Short(max(0, p.Until.Sub(now())))}
		}
		rows = append(rows, []screen.Cell{{Text: strings.TrimPrefix(p.Trigger, "default/"), Colour: screen.Bold}, {Text: strings.TrimPrefix(p.Broker, "default/")},
			count(p.Events), count(p.Retrying), orUnknown(ago(now, p.Oldest)), until, orUnknown(screen.Cell{Text: p.Reason})})
	}
	return rows
}

// showEventsOf shows what waits at a Broker or a Trigger, and its dead letters.
func (a *app) showEventsOf(ctx context.Context, e *client.Engine, d client.Description) {
	name, trigger := d.Namespace+"/"+d.Name, ""
	if d.Kind == objects.Trigger.Singular() {
		trigger = name
	}
	pending, err := e.Pending(ctx)
	dead, _, deadErr := e.DeadLetters(ctx, trigger)
	pending = slices.DeleteFunc(pending, func(p client.Pending) bool { return p.Trigger != name && (p.Broker != name || trigger != "") })
	dead = slices.DeleteFunc(dead, func(l client.DeadLetter) bool { return trigger == "" && l.Broker != name })
	a.section("Waiting", pendingColumns, pendingRows(pending, time.Now))
	a.section("Dead letters", deadColumns, deadRows(dead[max(0, len(dead)-maxShown):], time.Now))
	a.notRead(err, deadErr)
}

// deletedBroker adds to why a Broker cannot be shown what it has left.
func (a *app) deletedBroker(ctx context.Context, e *client.Engine, name string, missing error) error {
	pending, err := e.Pending(ctx)
	if err != nil {
		return missing
	}
	for _, p := range pending {
		if p.Broker == name && !p.Until.IsZero() {
			return fmt.Errorf("%w\nthat Broker was deleted: %d events that Trigger %s had yet to get are kept until %s, and delivered if the Broker and the Trigger are applied again",
				missing, p.Events, p.Trigger, p.Until.Local().Format(time.DateTime))
		}
	}
	return missing
}

// confirmUndelivered asks before Brokers and Triggers of this machine are
// deleted that have events yet to be delivered. Where nobody can answer it is
// an error.
func (a *app) confirmUndelivered(ctx context.Context, p place, all []object) error {
	e, ok := p.(*client.Engine)
	if !ok {
		return nil
	}
	brokers, triggers := map[string]bool{}, map[string]bool{}
	for _, o := range all {
		switch name := o.GetNamespace() + "/" + o.GetName(); o.kind.Full() {
		case objects.Broker.Full():
			brokers[name] = true
		case objects.Trigger.Full():
			triggers[name] = true
		}
	}
	if len(brokers)+len(triggers) == 0 {
		return nil
	}
	pending, err := e.Pending(ctx)
	if refusal, ok := errors.AsType[*problem.Error](err); ok && refusal.Status == http.StatusNotFound {
		return nil // there is no Broker at all
	}
	if err != nil {
		return err
	}
	var waiting []string
	for _, p := range pending {
		if brokers[p.Broker] || triggers[p.Trigger] {
			waiting = append(waiting, fmt.Sprintf("Trigger %s of Broker %s has yet to get %s", p.Trigger, p.Broker, plural(p.Events, "event")))
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	what := strings.Join(waiting[:min(len(waiting), maxShown)], "; ")
	if !screen.IsTerminal(a.In) {
		return fmt.Errorf("nothing was deleted: %s; wait until they are delivered, or give --yes (what is left of a Broker waits for its return for a while, what is left of a Trigger is thrown away)", what)
	}
	return a.confirm(ctx, what+". Delete all the same?", "deleted")
}

// maxShown dead letters of a description, the newest.
const maxShown = 15
