package engine

import (
	"net/http"

	"aisle.dev/aisle/activator/engine/pod"
	"aisle.dev/aisle/internal/manifest"
)

// podProbes are a template's probes as a pod is asked them.
func podProbes(t *manifest.Template) pod.Probes {
	return pod.Probes{Startup: podProbe(t.Startup), Readiness: *podProbe(t.Readiness), Liveness: podProbe(t.Liveness)}
}

func podProbe(p *manifest.Probe) *pod.Probe {
	if p == nil {
		return nil
	}
	probe := &pod.Probe{Delay: p.InitialDelay, Period: p.Period, Timeout: p.Timeout, Success: p.SuccessThreshold, Failure: p.FailureThreshold}
	if p.HTTPGet != nil {
		probe.HTTP, probe.Path, probe.Host = true, p.HTTPGet.Path, p.HTTPGet.Host
		probe.Header = http.Header{}
		for _, h := range p.HTTPGet.Headers {
			probe.Header.Add(h.Name, h.Value)
		}
	}
	if p.GRPC != nil {
		probe.GRPC, probe.Service = true, p.GRPC.Service
	}
	return probe
}
