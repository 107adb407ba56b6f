package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A fatal error ends a wait at once.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// until asks five times a second until met has nothing to complain of or ctx
// ends; its error then holds the last complaint.
func until(ctx context.Context, what string, met func(context.Context) error) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		complaint := met(ctx)
		if complaint == nil {
			return nil
		}
		if f, ok := errors.AsType[fatal](complaint); ok {
			return fmt.Errorf("wait for %s: %w", what, f.error)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, context.Cause(ctx), complaint)
		}
	}
}

// within is until with a time of its own.
func within(ctx context.Context, d time.Duration, what string, met func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d, fmt.Errorf("not within %s", d))
	defer cancel()
	return until(ctx, what, met)
}
