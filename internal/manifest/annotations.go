package manifest

import (
	"maps"
	"slices"
	"strings"

	"knative.dev/pkg/kmap"
	"knative.dev/serving/pkg/apis/autoscaling"
	"knative.dev/serving/pkg/apis/serving"
)

// GPURollout is the annotation of a Service that says what becomes of a new
// revision that needs the GPUs which the old one holds: with [GPUSwap] the old
// pod is drained while requests wait, and comes back if the new one does not
// get ready; with [GPUWait], the default, the new one stays Pending.
const (
	GPURollout = "aisle.dev/gpu-rollout"
	GPUSwap    = "swap"
	GPUWait    = "wait"
)

const alwaysInPath = "the engine's proxy is always in the path of a request"

// templateAnnotations are Knative's annotations of a revision template, with
// what one machine makes of them. Knative itself reads over an annotation that
// it does not know; a misspelt max-scale would be no limit at all.
var templateAnnotations = func() map[string]rule {
	m := make(map[string]rule)
	add := func(v verdict, reason string, keys ...kmap.KeyPriority) {
		for _, spellings := range keys {
			for _, k := range spellings {
				m[k] = rule{v, reason}
			}
		}
	}
	add(honour, "", autoscaling.ClassAnnotation, autoscaling.InitialScaleAnnotation, autoscaling.MaxScaleAnnotation,
		autoscaling.MetricAnnotation, autoscaling.MetricAggregationAlgorithmAnnotation, autoscaling.ActivationScale,
		autoscaling.MinScaleAnnotation, autoscaling.PanicThresholdPercentageAnnotation,
		autoscaling.PanicWindowPercentageAnnotation, autoscaling.ScaleDownDelayAnnotation,
		autoscaling.ScaleToZeroPodRetentionPeriodAnnotation, autoscaling.TargetAnnotation,
		autoscaling.TargetUtilizationPercentageAnnotation, autoscaling.WindowAnnotation,
		serving.ProgressDeadlineAnnotation)
	add(ignore, alwaysInPath, autoscaling.TargetBurstCapacityAnnotation)
	add(ignore, "there is no queue-proxy process; the engine queues", serving.QueueSidecarResourcePercentageAnnotation,
		serving.QueueSidecarCPUResourceRequestAnnotation, serving.QueueSidecarCPUResourceLimitAnnotation,
		serving.QueueSidecarMemoryResourceRequestAnnotation, serving.QueueSidecarMemoryResourceLimitAnnotation,
		serving.QueueSidecarEphemeralStorageResourceRequestAnnotation, serving.QueueSidecarEphemeralStorageResourceLimitAnnotation)
	add(ignore, fromCluster, kmap.KeyPriority{serving.CreatorAnnotation, serving.UpdaterAnnotation})
	return m
}()

var serviceAnnotations = func() map[string]rule {
	m := map[string]rule{
		serving.CreatorAnnotation: {ignore, fromCluster},
		serving.UpdaterAnnotation: {ignore, fromCluster},
	}
	for _, k := range serving.RolloutDurationAnnotation {
		m[k] = rule{honour, ""}
	}
	m[GPURollout] = rule{honour, ""}
	return m
}()

// checkAnnotations reports annotations of Knative's and of ours that are
// unknown or ignored; those of others are the others' business. Autoscaling annotations on the
// Service itself are refused by Knative's validation.
func checkAnnotations(f *findings, object, path string, have map[string]string, known map[string]rule) {
	for _, key := range slices.Sorted(maps.Keys(have)) {
		domain, _, _ := strings.Cut(key, "/")
		if domain != "aisle.dev" && domain != "knative.dev" && !strings.HasSuffix(domain, ".knative.dev") {
			continue
		}
		if domain == autoscaling.GroupName && path == "metadata.annotations" {
			continue
		}
		switch r, ok := known[key]; {
		case !ok:
			f.refuse(object, join(path, key), "unknown annotation%s", meant(key, maps.Keys(known)))
		case r.verdict == ignore:
			f.ignore(object, join(path, key), r.reason)
		}
	}
	if v, ok := have[GPURollout]; ok && v != GPUSwap && v != GPUWait {
		f.refuse(object, join(path, GPURollout), "is %q; want %s or %s", v, GPUSwap, GPUWait)
	}
	if class, ok := have[autoscaling.ClassAnnotationKey]; ok && path != "metadata.annotations" && class != autoscaling.KPA {
		f.refuse(object, join(path, autoscaling.ClassAnnotationKey), "%q needs a cluster; Knative's own autoscaler is %s", class, autoscaling.KPA)
	}
}
