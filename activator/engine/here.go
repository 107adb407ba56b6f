package engine

import (
	"net"
	"regexp"
	"slices"

	"aisle.dev/aisle/internal/manifest"
)

// served matches the place where an overlay says that services of this
// machine are reached, in LEG_URL=http://{service}.{namespace}.localhost:8080:
// a name below .localhost and [DefaultAddress]'s port.
var served = regexp.MustCompile(`(\.localhost):8080\b`)

// here returns an environment in which that place has the port at which this
// engine does serve: one manifest holds for any address.
func here(env []manifest.EnvVar, address string) []manifest.EnvVar {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return env
	}
	env = slices.Clone(env)
	for i := range env {
		env[i].Value = served.ReplaceAllString(env[i].Value, "${1}:"+port)
	}
	return env
}
