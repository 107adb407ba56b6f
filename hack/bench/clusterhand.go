package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/internal/client/objects"
	"aisle.dev/aisle/internal/scaling"
)

// floored are the services that get a floor, in turn.
var floored = []string{"trivial", "title", "photo"}

// clusterHand sets a floor by hand on services at zero, as `aisle scale` does,
// and measures until a pod is there.
func clusterHand(ctx context.Context, b *bench) ([]row, error) {
	return withCluster(ctx, b, func(c *cluster) ([]row, error) {
		if err := c.control(ctx); err != nil {
			return nil, err
		}
		// Knative's autoscaler minds no min-scale of a Revision that began at zero
		// and has never had a pod.
		for _, service := range floored {
			if err := get(ctx, c.http, c.url(service, "/readyz")); err != nil {
				return nil, err
			}
		}
		var took sample
		for i := range b.rounds {
			for _, service := range floored {
				err := every(ctx, 200*time.Millisecond, 3*time.Minute, func() (bool, error) {
					pods, err := c.podsOf(ctx, service)
					return len(pods) == 0, err
				})
				if err != nil {
					return nil, fmt.Errorf("%s does not go to zero: %w", service, err)
				}
				seconds, err := c.byHand(ctx, service)
				if err != nil {
					return nil, err
				}
				took = append(took, seconds)
			}
			fmt.Fprintf(b.log, "\rcluster-hand: %d of %d", i+1, b.rounds)
		}
		fmt.Fprintln(b.log)
		return []row{{"bound set by hand, to a pod that starts, on the cluster, s", took.String(), "≤ 1.5"}}, nil
	})
}

// control installs the controller.
func (c *cluster) control(ctx context.Context) error {
	images, _, err := c.findImages(ctx)
	if err != nil {
		return err
	}
	dir := filepath.Join(".cache", "bench-controller")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
		"resources": []string{"../../manifests/controller"}, "images": images,
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "kustomization.yaml"), text, 0o644)
	}
	if err == nil {
		_, err = c.run(ctx, "apply", "--server-side", "--force-conflicts", "-k", dir)
	}
	if err == nil {
		_, err = c.run(ctx, "-n", "aisle-system", "rollout", "status", "deployment/aisle-controller", "--timeout=2m")
	}
	return err
}

// byHand sets a floor of a service and gives the seconds until it has a pod.
func (c *cluster) byHand(ctx context.Context, service string) (seconds float64, err error) {
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": scaling.GroupVersion.String(), "kind": scaling.Kind,
		"metadata": map[string]any{"name": scaling.HandName(service), "namespace": namespace},
		"spec": map[string]any{
			"service": service, "until": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
			"windows": []any{map[string]any{"floor": int64(1)}},
		},
	}}
	start := time.Now()
	if _, _, err := c.Objects().Apply(ctx, objects.Schedule, o, objects.Applying{}); err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, c.Objects().Delete(ctx, objects.Schedule, namespace, o.GetName(), false))
	}()
	err = every(ctx, 10*time.Millisecond, time.Minute, func() (bool, error) {
		pods, err := c.podsOf(ctx, service)
		return len(pods) > 0, err
	})
	return time.Since(start).Seconds(), err
}
