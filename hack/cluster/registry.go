package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"

	"github.com/google/go-containerregistry/pkg/registry"
)

// registry serves images from memory on the machine's side of the link to the
// node, for trying out how a cluster of somebody else is used: REGISTRY=.
func (h *harness) registry(ctx context.Context) error {
	listener, err := net.Listen("tcp", registryAddr)
	if err != nil {
		return fmt.Errorf("the registry needs a cluster that is up: %w", err)
	}
	server := &http.Server{Handler: registry.New(registry.Logger(log.New(h.stderr, "", 0)))}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	h.say("serving images at %s", registryAddr)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
