// Package cli is the commands of aisle: what they are called, which flags they
// have, and what they print.
//
// Results go to standard output, everything else to standard error. Every
// error says what to do next, and every command ends with one of the exit
// codes of [ExitCodes]. The work itself is elsewhere: reading files in
// internal/feed, sending in delivery, figures in internal/score, running
// services in activator/engine.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aisle.dev/aisle/cmd/aisle/internal/delivery"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/knative"
)

// Streams are what a command reads and writes, and its environment.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
}

// app is what all commands share.
type app struct {
	Streams
	out, err screen.Screen
	dataDir  string
	at       clusterFlags
}

// Run runs one command line and returns its exit code.
func Run(ctx context.Context, args []string, s Streams) int {
	a := &app{Streams: s, out: screen.New(s.Out, s.Getenv), err: screen.New(s.Err, s.Getenv)}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return OK
	}
	code := exitCode(err)
	if msg := err.Error(); msg != "" {
		a.err.Printf("%s %s\n", a.err.Paint(screen.Red, "aisle:"), screen.CleanLines(strings.TrimRight(msg, "\n")))
	}
	if code == Usage {
		a.err.Printf("See: %s --help\n", cmd.CommandPath())
	}
	return code
}

// Exit codes.
const (
	OK          = 0
	Failed      = 1
	Usage       = 2
	SomeFailed  = 3
	NotRunning  = 4
	Interrupted = 130
)

// ExitCodes documents them.
const ExitCodes = `  0    everything was done
  1    it failed; the message says why
  2    the command line is wrong, or the kubeconfig, or it has no such context
  3    some products got no category; each is listed with its reason
  4    nothing runs (no engine, no Knative), or nothing answers at the address
  130  interrupted (Ctrl-C)`

// exit is an error that decides the exit code. Without err nothing is printed.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// flagError says what a flag takes where it was given something else.
func flagError(err error) error {
	wrong, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	takes := map[string]string{
		"bool": "true or false", "duration": "a duration such as 90s, 30m or 3h", "float64": "a number",
		"int": "a whole number", "int32": "a whole number up to 2147483647", "int64": "a whole number", "uint64": "a whole number from 0",
	}[wrong.GetFlag().Value.Type()]
	if takes == "" {
		return err
	}
	return fmt.Errorf("--%s %.40q: use %s", wrong.GetFlag().Name, wrong.GetValue(), takes)
}

// usagef is an error of the command line.
func usagef(format string, args ...any) error { return &exit{Usage, fmt.Errorf(format, args...)} }

func exitCode(err error) int {
	if e, ok := errors.AsType[*exit](err); ok {
		return e.code
	}
	switch {
	case errors.Is(err, knative.ErrConfig):
		return Usage
	case errors.Is(err, delivery.ErrUnreachable), errors.Is(err, client.ErrNotRunning):
		return NotRunning
	case errors.Is(err, context.Canceled):
		return Interrupted
	// Cobra has no type for these.
	case strings.HasPrefix(err.Error(), "unknown command"), strings.HasPrefix(err.Error(), "required flag"):
		return Usage
	}
	return Failed
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "aisle",
		Short: "Sort products into categories with models that cost nothing while idle",
		Long: `Aisle sorts products into categories. Classifiers run as services that start
when a product comes and stop when none does; a composer asks them all and
makes one category of their answers.`,
		Example: `  aisle up                                      # serve until Ctrl-C
  aisle classify --title "Blue denim jeans"     # one product
  aisle send --wait products.csv                # a file of products
  aisle get pods --watch                        # see pods come and go
  aisle apply -f title.yaml --wait              # add a service, or change it
  aisle explain p1                              # why a product got its category
  aisle --context prod -n aisle get revisions   # the same on a Knative cluster`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exit{Usage, flagError(err)} })
	root.PersistentFlags().StringVar(&a.dataDir, "data-dir", "", "the engine's folder (default $AISLE_DATA_DIR, else $XDG_STATE_HOME/aisle, else ~/.local/state/aisle)")
	a.clusterFlags(root)
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.AddGroup(&cobra.Group{ID: "products", Title: "Products:"}, &cobra.Group{ID: "models", Title: "Models:"}, &cobra.Group{ID: "running", Title: "Running:"}, &cobra.Group{ID: "events", Title: "Events:"})
	root.SetHelpCommandGroupID("running")
	root.SetCompletionCommandGroupID("running")
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("products", a.classify(), a.send(), a.review(), a.evaluate(), a.compare())
	add("models", a.model(), a.compose(), a.serve())
	add("running", a.up(), a.demo(), a.apply(), a.delete(), a.get(), a.describe(), a.logs(), a.version())
	add("running", a.schedule(), a.scale(), a.cost(), a.audit(), a.token())
	add("events", a.events(), a.results(), a.explain())
	root.AddCommand(&cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: "Exit codes:\n" + ExitCodes})
	return root
}

// exactly is cobra.ExactArgs with a sentence that names what is wanted.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("want %s, got %d arguments", what, len(args))
		}
		return nil
	}
}

func none(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("want no arguments, got %q", args)
	}
	return nil
}
