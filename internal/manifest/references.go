package manifest

import (
	"slices"

	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

// References are the names of the ConfigMaps and Secrets that a revision
// refers to, sorted.
func References(spec *servingv1.RevisionSpec) (configMaps, secrets []string) {
	for _, v := range spec.Volumes {
		if v.ConfigMap != nil {
			configMaps = append(configMaps, v.ConfigMap.Name)
		}
		if v.Secret != nil {
			secrets = append(secrets, v.Secret.SecretName)
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				configMaps = append(configMaps, s.ConfigMap.Name)
			}
			if s.Secret != nil {
				secrets = append(secrets, s.Secret.Name)
			}
		}
	}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, e := range c.EnvFrom {
			if e.ConfigMapRef != nil {
				configMaps = append(configMaps, e.ConfigMapRef.Name)
			}
			if e.SecretRef != nil {
				secrets = append(secrets, e.SecretRef.Name)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom == nil {
				continue
			}
			if ref := e.ValueFrom.ConfigMapKeyRef; ref != nil {
				configMaps = append(configMaps, ref.Name)
			}
			if ref := e.ValueFrom.SecretKeyRef; ref != nil {
				secrets = append(secrets, ref.Name)
			}
		}
	}
	for _, names := range []*[]string{&configMaps, &secrets} {
		slices.Sort(*names)
		*names = slices.Compact(*names)
	}
	return configMaps, secrets
}
