// Command aisle is Aisle's command line: it runs the services of one machine
// (up), sends products to them (send, classify), measures them (evaluate) and
// shows what runs (get, logs). `aisle help` lists the commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // for the zones of schedules, on machines that have none

	"aisle.dev/aisle/cmd/aisle/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends what is running in good order, the second at once.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Run(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}))
}
