// Command chaos sends events to an engine, kills its parts at random with
// SIGKILL, and counts what became of each event:
//
//	go run ./hack/chaos                    # 200,000 events; make chaos
//	go run ./hack/chaos -events 1000000    # make soak
//
// The engine is a build of cmd/aisle with the tag failpoint, which kills
// itself now and then between writing a result and acknowledging the event
// that it is of; its pods are real classifiers and composers. Beside that the
// engine, the composer and the classifiers are killed from outside. With
// -stand-in the engine is a small one of this program's own, with the real
// broker and pretended functions as processes: it needs no models.
//
// What must hold, or the exit code is 1:
//   - an event that was accepted has at least one answer or one dead letter;
//   - an event has a second answer id only where other legs or models answered;
//   - two answers with one id are equal, but for timings, attempts and the
//     reasons of legs that failed (which of them a kill hit is chance);
//   - the memory of the engine does not grow.
//
// Non-goals: power cuts and damaged files (the broker's tests), and speed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

type options struct {
	events    int
	rate      int // events a second at most
	senders   int
	standIn   bool
	seed      uint64
	kills     time.Duration // mean time between two kills
	points    int           // deaths at the failpoint, about, in the whole run
	patience, // without news of any event, after which the rest counts as lost
	limit time.Duration
	dir  string
	json bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(ctx, role); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		return
	}
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	fs := flag.NewFlagSet("chaos", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.events, "events", 200_000, "events to send")
	fs.IntVar(&o.rate, "rate", 1000, "events a second at most")
	fs.IntVar(&o.senders, "senders", 64, "events sent at once")
	fs.BoolVar(&o.standIn, "stand-in", false, "pretended functions instead of real ones; needs no build")
	fs.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of the kills")
	fs.DurationVar(&o.kills, "kills", time.Second, "mean time between two kills")
	fs.IntVar(&o.points, "points", 10, "deaths between a store's write and its acknowledgement, about")
	fs.DurationVar(&o.patience, "patience", 3*time.Minute, "without news of any event, after which the rest counts as lost")
	fs.DurationVar(&o.limit, "limit", 6*time.Hour, "end the run after this time, whatever is left")
	fs.StringVar(&o.dir, "dir", "", "keep the engine's data and what it says here; without it they are removed")
	fs.BoolVar(&o.json, "json", false, "print JSON")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if o.events < 1 || o.rate < 1 || o.senders < 1 || o.points < 0 || o.kills <= 0 {
		return errors.New("-events, -rate, -senders and -kills must be positive")
	}
	r, err := chaos(ctx, o, slog.New(slog.NewTextHandler(stderr, nil)))
	if err != nil {
		return err
	}
	if o.json {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		_, err = fmt.Fprint(stdout, r)
	}
	return errors.Join(err, r.verdict())
}

// chaos does one run.
func chaos(ctx context.Context, o options, log *slog.Logger) (r report, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "aisle-chaos-"); err != nil {
			return r, err
		}
		defer os.RemoveAll(o.dir)
	}
	book := newLedger(o.events)
	collector, err := collect(book)
	if err != nil {
		return r, err
	}
	defer collector.Close()
	e, err := newEngine(ctx, o, collector.address, log)
	if err != nil {
		return r, err
	}
	log.Info("chaos", "events", o.events, "seed", o.seed, "engine", e.address)
	running, stopEngine := context.WithCancel(ctx)
	ended := make(chan struct{})
	var engineErr error // written before ended is closed
	go func() {
		defer close(ended)
		engineErr = e.supervise(running)
		cancel() // without it there is nothing to wait for
	}()
	defer func() {
		stopEngine()
		<-ended
		err = errors.Join(engineErr, err)
	}()

	killing, stopKilling := context.WithCancel(ctx)
	killed := make(chan kills, 1)
	go func() { killed <- e.killAtRandom(killing, o) }()
	err = send(ctx, o, e.address, book, log)
	stopKilling()
	r.Killed = <-killed
	if err != nil {
		return r, err
	}
	log.Info("all are sent; waiting for the rest")
	r.Drained = book.wait(ctx, o.patience)
	stopEngine()
	if <-ended; engineErr != nil {
		return r, nil // the deferred function says it
	}
	if r.Stored, err = e.stored(context.WithoutCancel(ctx)); err != nil {
		return r, err
	}
	book.count(&r)
	r.Killed.Point = int(e.points.Load())
	r.Starts, r.Memory = int(e.starts.Load()), e.memory.summary()
	return r, nil
}
