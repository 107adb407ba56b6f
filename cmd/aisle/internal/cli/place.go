package cli

import (
	"cmp"
	"context"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"aisle.dev/aisle/internal/client"
)

// engineDir is the folder of the engine that a command means.
func (a *app) engineDir() (string, error) {
	if dir := cmp.Or(a.dataDir, a.Getenv("AISLE_DATA_DIR")); dir != "" {
		return filepath.Abs(dir)
	}
	if state := a.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) { // the specification ignores relative ones
		return filepath.Join(state, "aisle"), nil
	}
	home := a.Getenv("HOME")
	if home == "" {
		return "", usagef("there is no home folder to keep state in; say where with --data-dir DIR")
	}
	return filepath.Join(home, ".local", "state", "aisle"), nil
}

// engine is the client of the engine that runs there, or says that none does.
func (a *app) engine() (client.Client, error) {
	dir, err := a.engineDir()
	if err != nil {
		return nil, err
	}
	return client.NewEngine(dir), nil
}

// defaultAddress is where services are reached when no engine says otherwise.
const defaultAddress = "127.0.0.1:8080"

// serviceURL is the address of a service of the default namespace: at the
// engine that runs, else where one runs by default.
func (a *app) serviceURL(ctx context.Context, service string) *url.URL {
	address := defaultAddress
	if dir, err := a.engineDir(); err == nil {
		if _, err := os.Stat(filepath.Join(dir, client.SocketName)); err == nil {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			if v, err := client.NewEngine(dir).Version(ctx); err == nil {
				address = v.Address
			}
		}
	}
	return urlOf(service, address)
}

func urlOf(service, address string) *url.URL {
	_, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		port = "8080"
	}
	return &url.URL{Scheme: "http", Host: net.JoinHostPort(service+".default.localhost", port)}
}

// toURL reads --to, or finds the service.
func (a *app) toURL(ctx context.Context, to, service string) (*url.URL, error) {
	if to == "" {
		return a.serviceURL(ctx, service), nil
	}
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usagef("--to %q is not a URL such as http://composer.default.localhost:8080", to)
	}
	return u, nil
}
