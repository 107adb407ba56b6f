package engine

import (
	"strings"

	"aisle.dev/aisle/activator/engine/pod"
	"aisle.dev/aisle/activator/engine/slots"
)

// claim waits until the pod has the GPUs that it needs, and shows it Pending
// meanwhile. told is whether it was told to stop first. The claim must be
// released.
func (r *revision) claim(p *podState, need int) (claim *slots.Claim, told bool) {
	r.mu.Lock()
	if claim, r.back = r.back, nil; claim == nil {
		claim = r.gpus.Ask(r.spec.Namespace+"/"+p.name, need)
	}
	p.claim = claim
	r.mu.Unlock()
	select {
	case <-claim.Granted():
		return claim, false
	default:
	}
	r.event <- event{p, podPending, claim.Pending()}
	select {
	case <-claim.Granted():
		r.event <- event{p, podScheduled, ""}
		return claim, false
	case <-p.order:
		return claim, true
	}
}

// visible is the environment that shows a pod its GPUs and no others. On a
// machine without any there is nothing to hide.
func (r *revision) visible(gpus []string) []pod.EnvVar {
	if r.gpus.Total() == 0 {
		return nil
	}
	return []pod.EnvVar{
		{Name: "CUDA_DEVICE_ORDER", Value: "PCI_BUS_ID"}, // in which the driver counts them
		{Name: "CUDA_VISIBLE_DEVICES", Value: strings.Join(gpus, ",")},
	}
}
