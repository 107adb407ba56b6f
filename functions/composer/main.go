// Composer turns product events into category events: it asks the
// classifiers of a composition and reduces what they answer. See
// internal/compose.
//
// Environment: PORT (8080), COMPOSITION (path of the composition file, which
// may be replaced while the composer runs; required), LEG_URL (template of a
// leg's address), NAMESPACE (of legs that name none; default), SOURCE (of its
// events; /aisle/composer), MAX_INFLIGHT (products at once; 128), CLOSURES
// (path of the file that says when services are closed, which may be missing),
// LOG_LEVEL (info).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"aisle.dev/aisle/internal/compose"
	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/metrics"
	"aisle.dev/aisle/internal/serve"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "composer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, getenv func(string) string, stderr io.Writer) error {
	var level slog.Level
	if s := getenv("LOG_LEVEL"); s != "" {
		if err := level.UnmarshalText([]byte(s)); err != nil {
			return fmt.Errorf("LOG_LEVEL %q: want debug, info, warn or error", s)
		}
	}
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level}))
	max := 0
	if s := getenv("MAX_INFLIGHT"); s != "" {
		var err error
		if max, err = strconv.Atoi(s); err != nil || max < 1 {
			return fmt.Errorf("MAX_INFLIGHT %q: want a number of products, 1 or more", s)
		}
	}
	path := getenv("COMPOSITION")
	if path == "" {
		return errors.New("COMPOSITION is not set: it names the composition file, such as manifests/base/composition.yaml")
	}
	set := metrics.New()
	c, err := compose.Open(path, compose.Options{
		LegURL:      getenv("LEG_URL"),
		Namespace:   getenv("NAMESPACE"),
		Source:      getenv("SOURCE"),
		MaxInFlight: max,
		Closures:    getenv("CLOSURES"),
		Logger:      log,
		Metrics:     set,
	})
	if err != nil {
		return err
	}
	defer c.Close() // no product is on its way any more
	return serve.Run(ctx, serve.Options{
		Host: getenv("HOST"), Port: getenv("PORT"), Handler: c, Metrics: set, Logger: log,
		Grace: composition.MaxDeadline + 20*time.Second, // a product has a deadline, and may still be on its way in
		Listening: func(a net.Addr) {
			log.Info("ready", "address", a.String(), "composition", c.Composition().Name, "digest", c.Composition().Digest)
		},
	})
}
