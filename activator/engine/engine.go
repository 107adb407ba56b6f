// Package engine runs Knative Services on one machine without a cluster: a
// revision's pods are operating-system processes, started when a request
// waits for one and stopped when Knative's autoscaler says so.
package engine

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"aisle.dev/aisle/internal/client"
)

// DefaultAddress is where services are reached when Options names no address.
const DefaultAddress = "127.0.0.1:8080"

// Options say what an engine runs, and where. Manifests, Root and DataDir
// must be given.
type Options struct {
	Manifests string // kustomize folder with the Services, ConfigMaps and config-* of this machine
	Root      string // the pods' working directory: ko://aisle.dev/aisle/functions/X is Root/bin/X
	DataDir   string // the engine's only state, made with mode 0700; one engine at a time
	Address   string // host:port of the proxy; empty means DefaultAddress; port 0 picks a free one
	Version   string // what runs, for GET /v1/version

	Logger   *slog.Logger         // nil discards
	Registry *prometheus.Registry // nil makes a fresh one; served as /metrics

	// Started, when not nil, is called once, as soon as requests are
	// accepted, from Run's goroutine. Address in it is the bound one.
	Started func(client.Version)
}

// Engine is one machine's services. Make one with [New].
type Engine struct {
	opts Options
}

// New loads and checks the manifests; nothing is started and nothing written.
// Its error names the file and field at fault.
func New(opts Options) (*Engine, error) {
	return nil, errors.New("engine: not written yet")
}

// Run serves until ctx ends, then drains and stops everything that it
// started before it returns. A normal stop returns nil.
func (e *Engine) Run(ctx context.Context) error { return errors.New("engine: not written yet") }

// Hurry makes a Run that is stopping kill its pods at once instead of waiting
// for their grace: what a second Ctrl-C asks for. It may be called at any time.
func (e *Engine) Hurry() {}
