package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"aisle.dev/aisle/internal/client/objects"
	"aisle.dev/aisle/internal/scaling"
)

// bound measures how soon a floor that somebody sets is followed: from before
// the request that sets it until the process of the pod is started.
func bound(ctx context.Context, b *bench) ([]row, error) {
	return withEngine(ctx, func(r *running) ([]row, error) {
		set := func(window map[string]any) error {
			o := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": scaling.GroupVersion.String(), "kind": scaling.Kind,
				"metadata": map[string]any{"name": scaling.HandName("title"), "namespace": "default"},
				"spec":     map[string]any{"service": "title", "windows": []any{window}},
			}}
			_, _, err := r.Objects().Apply(ctx, objects.Schedule, o, objects.Applying{})
			return err
		}
		var took sample
		for i := range b.n {
			// Closed, its pods go at once; open without a floor, none is there.
			err := set(map[string]any{"closed": true})
			err = errors.Join(err, r.atZero(ctx), set(map[string]any{"cap": int64(10)}))
			if err != nil {
				return nil, err
			}
			begun := time.Now()
			if err := set(map[string]any{"floor": int64(1)}); err != nil {
				return nil, err
			}
			err = until(ctx, 20*time.Second, func() (bool, error) {
				pods, err := r.Pods(ctx)
				if err != nil || len(pods) == 0 || pods[0].PID == 0 {
					return false, err
				}
				took = append(took, float64(pods[0].Started.Sub(begun))/float64(time.Millisecond))
				return true, nil
			})
			if err != nil {
				return nil, fmt.Errorf("floor %d: %w", i, err)
			}
		}
		return []row{{"a floor set by hand, until its pod starts, ms", took.String(), "≤ 50"}}, nil
	})
}
