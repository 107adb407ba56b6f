package cost

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Prices say what an hour of a pod costs, beside its GPUs, and an hour of a GPU.
// docs/prices.yaml is an example.
type Prices struct {
	Currency string  `json:"currency"` // as it is written behind an amount: EUR
	PodHour  float64 `json:"podHour"`
	// GPUHour is by kind, a word of one's own. GPU is the kind of services that
	// name none.
	GPUHour map[string]float64 `json:"gpuHour,omitempty"`
	GPU     string             `json:"gpu,omitempty"`
	// Services are those with other prices, by NAMESPACE/NAME.
	Services map[string]ServicePrices `json:"services,omitempty"`
}

// ServicePrices are of one service.
type ServicePrices struct {
	PodHour *float64 `json:"podHour,omitempty"` // nil: as all
	GPU     string   `json:"gpu,omitempty"`     // a kind; empty: as all
}

// Bounds of a file of prices.
const (
	MaxPrices = 1 << 20 // bytes
	maxPrice  = 1e6     // of an hour
	maxWord   = 64      // bytes of a currency or a kind
)

// ParsePrices reads a file of prices. Its error names every field at fault.
func ParsePrices(text []byte) (*Prices, error) {
	if len(text) > MaxPrices {
		return nil, fmt.Errorf("it has more than %d bytes", MaxPrices)
	}
	var p Prices
	if err := yaml.UnmarshalStrict(text, &p); err != nil {
		return nil, err
	}
	var errs []error
	wrong := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{field}, args...)...))
	}
	price := func(field string, v float64) {
		if !(v >= 0 && v <= maxPrice) || math.IsNaN(v) {
			wrong(field, "%v is not a price from 0 to %.0f", v, maxPrice)
		}
	}
	kind := func(field, name string) {
		if _, ok := p.GPUHour[name]; name != "" && !ok {
			wrong(field, "gpuHour has no kind %.40q; it has %s", name, strings.Join(slices.Sorted(maps.Keys(p.GPUHour)), ", "))
		}
	}
	if p.Currency == "" || len(p.Currency) > maxWord {
		wrong("currency", "%.40q does not say what prices are in; write for example EUR", p.Currency)
	}
	price("podHour", p.PodHour)
	for _, name := range slices.Sorted(maps.Keys(p.GPUHour)) {
		if name == "" || len(name) > maxWord {
			wrong("gpuHour", "%.40q is not a kind of GPU", name)
		}
		price("gpuHour."+name, p.GPUHour[name])
	}
	kind("gpu", p.GPU)
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		s := p.Services[name]
		if namespace, service, ok := strings.Cut(name, "/"); !ok || namespace == "" || service == "" {
			wrong("services", "%.80q is not NAMESPACE/NAME", name)
		}
		if s.PodHour != nil {
			price("services."+name+".podHour", *s.PodHour)
		}
		kind("services."+name+".gpu", s.GPU)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &p, nil
}

// of is what an hour of a service's pod costs, and an hour of its GPU; ok is
// whether the latter has a price.
func (p *Prices) of(service string) (pod, gpu float64, ok bool) {
	s := p.Services[service]
	pod, kind := p.PodHour, p.GPU
	if s.PodHour != nil {
		pod = *s.PodHour
	}
	if s.GPU != "" {
		kind = s.GPU
	}
	gpu, ok = p.GPUHour[kind]
	return pod, gpu, ok
}
