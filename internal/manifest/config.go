package manifest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/serving/pkg/apis/autoscaling"
	"knative.dev/serving/pkg/apis/config"
	asconfig "knative.dev/serving/pkg/autoscaler/config"
	"knative.dev/serving/pkg/gc"
)

// knativeNamespace is where Knative keeps its own ConfigMaps.
const knativeNamespace = "knative-serving"

const featuresName = "config-features"

// configKeys are the settings of a ConfigMap of Knative's that count here.
// Knative reads over a key that it does not know.
var configKeys = map[string]map[string]rule{
	asconfig.ConfigName: keyRules(
		[]string{"pod-autoscaler-class", "enable-scale-to-zero", "allow-zero-initial-scale", "max-scale-up-rate",
			"max-scale-down-rate", "container-concurrency-target-percentage", "container-concurrency-target-default",
			"requests-per-second-target-default", "panic-window-percentage", "panic-threshold-percentage",
			"initial-scale", "min-scale", "max-scale", "max-scale-limit", "stable-window", "scale-down-delay",
			"scale-to-zero-grace-period", "scale-to-zero-pod-retention-period"},
		alwaysInPath, []string{"target-burst-capacity", "activator-capacity"}),
	config.DefaultsConfigName: keyRules(
		[]string{"init-container-name-template", "container-name-template", "allow-container-concurrency-zero",
			"enable-service-links", "revision-timeout-seconds", "max-revision-timeout-seconds",
			"revision-idle-timeout-seconds", "revision-response-start-timeout-seconds", "container-concurrency",
			"container-concurrency-max-limit", "revision-cpu-limit", "revision-memory-limit"},
		noRequests+"; what it writes to disk is not limited", []string{"revision-cpu-request", "revision-memory-request",
			"revision-ephemeral-storage-request", "revision-ephemeral-storage-limit"}),
	gc.ConfigName: keyRules(
		[]string{"retain-since-create-time", "retain-since-last-active-time", "min-non-active-revisions", "max-non-active-revisions"},
		"", nil),
	featuresName: keyRules(
		[]string{"autodetect-http2", "kubernetes.podspec-persistent-volume-write", "multi-container",
			"multi-container-probing", "queueproxy.mount-podinfo", "queueproxy.resource-defaults",
			"secure-pod-defaults", "tag-header-based-routing", config.FeatureContainerSpecAddCapabilities,
			config.FeaturePodSpecAffinity, config.FeaturePodSpecDNSConfig, config.FeaturePodSpecDNSPolicy,
			config.FeaturePodSpecEmptyDir, config.FeaturePodSpecFieldRef, config.FeaturePodSpecHostAliases,
			config.FeaturePodSpecHostIPC, config.FeaturePodSpecHostNetwork, config.FeaturePodSpecHostPID,
			config.FeaturePodSpecHostPath, config.FeaturePodSpecVolumesCSI, config.FeaturePodSpecVolumesEphemeral,
			config.FeaturePodSpecVolumesImage, config.FeaturePodSpecInitContainers,
			config.FeaturePodSpecVolumesMountPropagation, config.FeaturePodSpecNodeSelector,
			config.FeaturePodSpecPVClaim, config.FeaturePodSpecPriorityClassName, config.FeaturePodSpecRuntimeClassName,
			config.FeaturePodSpecSchedulerName, config.FeaturePodSpecSecurityContext,
			config.FeaturePodSpecShareProcessNamespace, config.FeaturePodSpecTolerations,
			config.FeaturePodSpecTopologySpreadConstraints},
		"", nil),
}

// otherConfigs are Knative's further ConfigMaps, which mean nothing here.
var otherConfigs = []string{"config-certmanager", "config-contour", "config-deployment", "config-domain", "config-gateway",
	"config-istio", "config-kourier", "config-leader-election", "config-logging", "config-network",
	"config-observability", "config-tracing"}

func keyRules(honoured []string, reason string, ignored []string) map[string]rule {
	m := make(map[string]rule)
	for _, k := range honoured {
		m[k] = rule{verdict: honour}
	}
	for _, k := range ignored {
		m[k] = rule{ignore, reason}
	}
	return m
}

// Settings are Knative's own ConfigMaps, read by its own code. What is not set
// has Knative's default.
type Settings struct {
	GC *gc.Config // which old revisions go

	data   map[string]map[string]string // by ConfigMap name
	config config.Config
}

// Autoscaler is the data of config-autoscaler, nil where there is none.
func (s *Settings) Autoscaler() map[string]string { return s.data[asconfig.ConfigName] }

// readSettings takes those ConfigMaps that are Knative's own.
func readSettings(f *findings, all []*corev1.ConfigMap) *Settings {
	s := new(Settings)
	for _, cm := range all {
		if cm.Namespace != knativeNamespace {
			continue
		}
		if len(cm.BinaryData) > 0 {
			f.refuse(configObject(cm.Name), "binaryData", "Knative reads data only")
		}
		s.add(f, configObject(cm.Name), cm.Name, cm.Data)
	}
	s.parse(f)
	return s
}

// add takes a ConfigMap of Knative's, or refuses it.
func (s *Settings) add(f *findings, object, name string, data map[string]string) {
	known, ok := configKeys[name]
	if !ok {
		if slices.Contains(otherConfigs, name) {
			f.ignore(object, "", "it configures parts of Knative that do not run here")
			return
		}
		names := append(slices.Collect(maps.Keys(configKeys)), otherConfigs...)
		f.refuse(object, "", "no ConfigMap of Knative's%s", meant(name, slices.Values(names)))
		return
	}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		if strings.HasPrefix(key, "_") { // Knative's own "_example"
			continue
		}
		switch r, ok := known[key]; {
		case !ok:
			f.refuse(object, join("data", key), "unknown setting%s", meant(key, maps.Keys(known)))
		case r.verdict == ignore:
			f.ignore(object, join("data", key), r.reason)
		}
	}
	if class, ok := data["pod-autoscaler-class"]; ok && class != autoscaling.KPA {
		f.refuse(object, "data.pod-autoscaler-class", "%q needs a cluster; Knative's own autoscaler is %s", class, autoscaling.KPA)
	}
	if s.data == nil {
		s.data = make(map[string]map[string]string)
	}
	s.data[name] = data
}

// parse reads what was added, by Knative's own code.
func (s *Settings) parse(f *findings) {
	read := func(name string, parse func(map[string]string) error) {
		defer func() {
			if r := recover(); r != nil {
				f.refuse(configObject(name), "data", "Knative's code fails on it: %v", r)
			}
		}()
		if err := parse(s.data[name]); err != nil {
			f.refuse(configObject(name), "data", "%s", plain(err))
		}
	}
	read(asconfig.ConfigName, func(m map[string]string) (err error) {
		s.config.Autoscaler, err = asconfig.NewConfigFromMap(m)
		return err
	})
	read(config.DefaultsConfigName, func(m map[string]string) (err error) {
		s.config.Defaults, err = config.NewDefaultsConfigFromMap(m)
		return err
	})
	read(gc.ConfigName, func(m map[string]string) (err error) {
		s.GC, err = gc.NewConfigFromConfigMapFunc(context.Background())(&corev1.ConfigMap{Data: m})
		return err
	})
	read(featuresName, func(m map[string]string) (err error) {
		s.config.Features, err = config.NewFeaturesConfigFromMap(m)
		return err
	})
}

func (s *Settings) context() context.Context {
	return config.ToContext(context.Background(), &s.config)
}

func configObject(name string) string {
	return fmt.Sprintf("ConfigMap %s/%s", knativeNamespace, name)
}
