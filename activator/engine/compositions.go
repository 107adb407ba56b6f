package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"aisle.dev/aisle/internal/composition"
	"aisle.dev/aisle/internal/manifest"
)

// compositionEnv names the composition file of a service (functions/composer).
const compositionEnv = "COMPOSITION"

// checkComposition refuses a composition that names a service which is not
// among names (NAMESPACE/NAME), or that its composer would refuse: better now
// than with every product that comes. Only a composition out of a ConfigMap is
// looked into; of a file elsewhere the composer knows more.
func checkComposition(t *manifest.Template, names []string) error {
	namespace := "default" // of legs that name none, as the composer has it
	file := ""
	for _, e := range t.Env {
		switch e.Name {
		case compositionEnv:
			file = e.Value
		case "NAMESPACE":
			namespace = e.Value
		}
	}
	var errs []error
	for _, m := range t.Mounts {
		below, ok := strings.CutPrefix(file, strings.TrimSuffix(m.Path, "/")+"/")
		if _, has := m.Files[below]; !ok || !has {
			continue
		}
		c, err := composition.ParseIn(m.Files, below)
		if err != nil {
			errs = append(errs, fmt.Errorf("service %s/%s: composition %s: %w", t.Namespace, t.Service, file, err))
			continue
		}
		for _, leg := range c.Legs {
			of := leg.Namespace
			if of == "" {
				of = namespace
			}
			for _, service := range leg.Services() {
				if target := of + "/" + service; !slices.Contains(names, target) {
					errs = append(errs, fmt.Errorf("service %s/%s: composition %s: leg %s names the service %s, which is not here; there are: %s",
						t.Namespace, t.Service, c.Name, leg.Name, target, strings.Join(names, ", ")))
				}
			}
		}
	}
	return errors.Join(errs...)
}
