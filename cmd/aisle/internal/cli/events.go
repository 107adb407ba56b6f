package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/objects"
)

func (a *app) events() *cobra.Command {
	var trigger, format string
	cmd := &cobra.Command{
		Use:   "events",
		Short: "List events that nobody took (dead letters); send them again, or purge them",
		Long: `List the dead letters of this machine: events that a Trigger's subscriber did not
take however often it was tried, with what it answered last. Look into one with
show, send them to their Triggers again with replay, throw them away with purge.

A cluster keeps none that can be asked for: there they go to the dead-letter
sink that a Broker or a Trigger names. What waits and has not been given up is
listed by: aisle get events --pending.`,
		Example: `  aisle events
  aisle events --trigger on-product -o json
  aisle events show 17
  aisle events replay 17 18
  aisle events replay --trigger on-product
  aisle events purge --all --yes`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := a.eventsAt()
			if err != nil {
				return err
			}
			all, more, err := e.DeadLetters(cmd.Context(), a.triggerName(trigger))
			if err != nil {
				return err
			}
			if more {
				a.err.Printf("there are more than these %s\n", screen.Thousands(len(all)))
			}
			if format != "table" {
				return writeAs(a.out, format, append([]client.DeadLetter{}, all...)) // an empty list is a list
			}
			if len(all) == 0 {
				a.out.Printf("no dead letters\n")
				return nil
			}
			screen.Write(a.out, deadColumns, deadRows(all, time.Now))
			return nil
		},
	}
	output(cmd, &format, "table", "json", "yaml")
	cmd.PersistentFlags().StringVar(&trigger, "trigger", "", "only those of this Trigger: NAME or NAMESPACE/NAME")
	_ = cmd.RegisterFlagCompletionFunc("trigger", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) { // fails only for a flag that is not there
		return a.names(cmd, objects.Trigger), cobra.ShellCompDirectiveNoFileComp
	})
	cmd.AddCommand(a.showDead(), a.replay(&trigger), a.purge(&trigger))
	return cmd
}

var deadColumns = left(">ID", ">AGO", "TRIGGER", "EVENT", "TYPE", "SOURCE", ">TRIED", ">CODE", "REASON")

func deadRows(all []client.DeadLetter, now func() time.Time) [][]screen.Cell {
	var rows [][]screen.Cell
	for _, d := range all {
		rows = append(rows, []screen.Cell{{Text: strconv.FormatUint(d.ID, 10), Colour: screen.Bold}, ago(now, d.Time), {Text: strings.TrimPrefix(d.Trigger, "default/")},
			{Text: d.EventID}, {Text: d.Type}, {Text: d.Source}, count(d.Attempts), codeCell(d), {Text: answered(d), Colour: screen.Red}})
	}
	return rows
}

func codeCell(d client.DeadLetter) screen.Cell {
	if d.Code < 0 {
		return unknown
	}
	return count(d.Code)
}

// answered is what a subscriber said, as far as it is text.
func answered(d client.DeadLetter) string {
	switch text := strings.TrimSpace(string(d.Data)); {
	case text != "":
		return screen.Clean(text)
	case d.Code < 0:
		return "no answer from " + d.Dest
	}
	return "nothing said by " + d.Dest
}

// eventsAt is the engine, which alone tells of events.
func (a *app) eventsAt() (*client.Engine, error) {
	p, err := a.place()
	if err != nil {
		return nil, err
	}
	e, ok := p.(*client.Engine)
	if !ok {
		return nil, usagef("a cluster's brokers do not tell of their events; send dead letters to a sink (spec.delivery.deadLetterSink), and category events to a subscriber of yours by a Trigger")
	}
	return e, nil
}

// triggerName is a Trigger's name with its namespace.
func (a *app) triggerName(name string) string {
	if name == "" || strings.Contains(name, "/") {
		return name
	}
	if a.at.namespace != "" {
		return a.at.namespace + "/" + name
	}
	return "default/" + name
}

func deadID(arg string) (uint64, error) {
	id, err := strconv.ParseUint(arg, 10, 64)
	if err != nil || id == 0 {
		return 0, usagef("%q is no dead letter's number; see: aisle events", arg)
	}
	return id, nil
}

func (a *app) showDead() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a dead letter's event",
		Example: `  aisle events show 17
  aisle events show 17 | jq .data`,
		Args: exactly(1, "the number of a dead letter (see: aisle events)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := deadID(args[0])
			if err != nil {
				return err
			}
			e, err := a.eventsAt()
			if err != nil {
				return err
			}
			event, err := e.DeadEvent(cmd.Context(), id)
			if err != nil {
				return err
			}
			return writeAs(a.out, "json", event)
		},
		ValidArgsFunction: a.completeDead,
	}
	return cmd
}

// chosen are the dead letters that a command is about.
type chosen struct {
	all bool
	ids []uint64
}

// choose reads them: numbers, or --trigger, or --all.
func (c *chosen) choose(args []string, trigger string) error {
	c.ids = nil
	for _, arg := range args {
		id, err := deadID(arg)
		if err != nil {
			return err
		}
		c.ids = append(c.ids, id)
	}
	ways := 0
	for _, given := range []bool{len(args) > 0, trigger != "", c.all} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return usagef("say which: numbers of dead letters, --trigger NAME, or --all")
	}
	return nil
}

// each does one to each of them, or all by one call, and tells how many.
func (a *app) each(c *chosen, one func(uint64) error, all func() (int, error), what, done string) error {
	n, err := 0, error(nil)
	if len(c.ids) == 0 {
		n, err = all()
	}
	for _, id := range c.ids {
		if e := one(id); e != nil {
			err = errors.Join(err, e)
			continue
		}
		n++
	}
	if err == nil || n > 0 {
		a.out.Printf("%s %s\n", plural(n, what), done)
	}
	return err
}

func (a *app) replay(trigger *string) *cobra.Command {
	var c chosen
	cmd := &cobra.Command{
		Use:   "replay ID... | --trigger NAME | --all",
		Short: "Send dead letters to their Triggers again",
		Long: `Send dead letters to the Triggers that they are of, and to no other, as if they
had just come: with all retries. One that fails again becomes a new dead letter.`,
		Example: `  aisle events replay 17 18
  aisle events replay --trigger on-product
  aisle events replay --all`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.choose(args, *trigger); err != nil {
				return err
			}
			e, err := a.eventsAt()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			return a.each(&c, func(id uint64) error { return e.Replay(ctx, id) }, func() (int, error) { return e.ReplayAll(ctx, a.triggerName(*trigger)) }, "event", "sent again")
		},
		ValidArgsFunction: a.completeDead,
	}
	cmd.Flags().BoolVar(&c.all, "all", false, "all dead letters, of all namespaces")
	return cmd
}

func (a *app) purge(trigger *string) *cobra.Command {
	var c chosen
	var yes bool
	cmd := &cobra.Command{
		Use:   "purge ID... | --trigger NAME | --all",
		Short: "Throw dead letters away",
		Long:  `Throw dead letters away, for good. It asks first, unless --yes is given.`,
		Example: `  aisle events purge 17
  aisle events purge --trigger on-product
  aisle events purge --all --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.choose(args, *trigger); err != nil {
				return err
			}
			e, err := a.eventsAt()
			if err != nil {
				return err
			}
			if !yes {
				what := plural(len(c.ids), "dead letter")
				if len(c.ids) == 0 {
					all, more, err := e.DeadLetters(cmd.Context(), a.triggerName(*trigger))
					if err != nil {
						return err
					}
					if len(all) == 0 {
						a.out.Printf("no dead letters\n")
						return nil
					}
					if what = plural(len(all), "dead letter"); more {
						what = "more than " + what
					}
				}
				if err := a.confirm(cmd.Context(), "Throw "+what+" away, for good?", "thrown away"); err != nil {
					return err
				}
			}
			ctx := cmd.Context()
			return a.each(&c, func(id uint64) error { return e.Purge(ctx, id) }, func() (int, error) { return e.PurgeAll(ctx, a.triggerName(*trigger)) }, "dead letter", "thrown away")
		},
		ValidArgsFunction: a.completeDead,
	}
	cmd.Flags().BoolVar(&c.all, "all", false, "all dead letters, of all namespaces")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// confirm asks a question; whatever is not yes is no, and then nothing was done.
func (a *app) confirm(ctx context.Context, question, done string) error {
	a.err.Printf("%s [y/N] ", question)
	in := newStoppable(a.In)
	defer context.AfterFunc(ctx, in.stop)()
	line, _ := bufio.NewReader(in).ReadString('\n') // an end is no
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("nothing was %s; answer y, or give --yes", done)
}

func (a *app) completeDead(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	e, err := a.eventsAt()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completing)
	defer cancel()
	all, _, _ := e.DeadLetters(ctx, "") // where nothing answers there is nothing to complete
	var ids []string
	for _, d := range all {
		ids = append(ids, fmt.Sprintf("%d\t%s %s", d.ID, d.Trigger, d.EventID))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
