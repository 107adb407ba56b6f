package engine

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/manifest"
)

func TestHere(t *testing.T) {
	for value, want := range map[string]string{
		"http://{service}.{namespace}.localhost:8080":          "http://{service}.{namespace}.localhost:9",
		"http://a.b.localhost:8080/x, http://c.localhost:8080": "http://a.b.localhost:9/x, http://c.localhost:9",
		"http://a.localhost:80801":                             "http://a.localhost:80801",
		"http://a.svc.cluster.local:8080":                      "http://a.svc.cluster.local:8080",
		"http://localhost:8080":                                "http://localhost:8080",
	} {
		env := []manifest.EnvVar{{Name: "A", Value: value}}
		got := here(env, "127.0.0.1:9")
		if diff := cmp.Diff(want, got[0].Value); diff != "" || env[0].Value != value {
			t.Errorf("%s: (-want +got), was %s:\n%s", value, env[0].Value, diff)
		}
	}
}
