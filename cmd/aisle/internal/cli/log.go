package cli

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
)

// logger logs to standard error: what is wrong, or with verbose everything.
// Until told is called, what the manifests ask in vain is collected; told then
// lists it once for each reason, and not once for each field of each service.
func (a *app) logger(verbose bool) (log *slog.Logger, told func()) {
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelDebug
	}
	text := slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level})
	if verbose {
		return slog.New(text), func() {}
	}
	h := &inVain{Handler: text}
	return slog.New(h), func() { h.tell(a.err) }
}

// inVain holds back what the engine says of fields that one machine ignores.
type inVain struct {
	slog.Handler

	mu   sync.Mutex
	said []string // "field: reason", each once
}

func (h *inVain) Handle(ctx context.Context, r slog.Record) error {
	if r.Message != "ignored on one machine" {
		return h.Handler.Handle(ctx, r)
	}
	var field, reason string
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "field":
			field = a.Value.String()
		case "reason":
			reason = a.Value.String()
		}
		return true
	})
	h.add(field, reason)
	return nil
}

func (h *inVain) add(field, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if line := field[strings.LastIndexByte(field, '.')+1:] + ": " + reason; !slices.Contains(h.said, line) {
		h.said = append(h.said, line)
	}
}

func (h *inVain) tell(s screen.Screen) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.said) == 0 {
		return
	}
	s.Printf("Ignored on one machine:\n")
	for _, line := range h.said {
		s.Printf("  %s\n", screen.Clean(line))
	}
	h.said = nil
}
