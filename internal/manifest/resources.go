package manifest

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Limits of a pod; 0 is none.
type Limits struct {
	Memory int64 // bytes
	CPU    int64 // thousandths of a core
	GPUs   int   // each a slot of the machine's that is the pod's alone
}

// gpuResource counts GPUs, as NVIDIA's device plug-in does in a cluster.
const gpuResource corev1.ResourceName = "nvidia.com/gpu"

// maxGPUs is more than any machine has.
const maxGPUs = 64

func (r reducer) limits(res corev1.ResourceRequirements) Limits {
	at := r.container() + ".resources"
	var l Limits
	for _, name := range slices.Sorted(maps.Keys(res.Limits)) {
		q, at := res.Limits[name], join(at+".limits", string(name))
		if q.Sign() < 0 {
			r.refuse(at, "is %s; it must not be negative", q.String())
			continue
		}
		switch name {
		case corev1.ResourceMemory:
			l.Memory = q.Value()
		case corev1.ResourceCPU:
			l.CPU = q.MilliValue()
		case gpuResource:
			l.GPUs = r.gpus(at, q)
		case corev1.ResourceEphemeralStorage:
			r.findings.ignore(r.object, at, "what a pod writes to disk is not limited")
		default:
			r.refuse(at, "nothing on one machine gives it; there are cpu, memory and %s", gpuResource)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(res.Requests)) {
		q, at := res.Requests[name], join(at+".requests", string(name))
		if name != gpuResource {
			r.findings.ignore(r.object, at, noRequests)
			continue
		}
		// As in Kubernetes: such a resource is not shared, so a request is a limit.
		if limit, ok := res.Limits[gpuResource]; ok && limit.Cmp(q) != 0 {
			r.refuse(at, "is %s, and the limit %s; they must be equal", q.String(), limit.String())
			continue
		}
		l.GPUs = r.gpus(at, q)
	}
	return l
}

func (r reducer) gpus(at string, q resource.Quantity) int {
	if q.MilliValue()%1000 != 0 || q.Sign() < 0 || q.CmpInt64(maxGPUs) > 0 {
		r.refuse(at, "is %s; want a whole number of GPUs, at most %d", q.String(), maxGPUs)
		return 0
	}
	return int(q.Value())
}
