package main

import (
	"context"
	"fmt"
	"time"
)

// clusterCold asks three services in turn, each when it has no pod: a trivial
// one in Go, title and photo. All have the same settings, and the same path
// through gateway and activator.
func clusterCold(ctx context.Context, b *bench) ([]row, error) {
	words, picture, err := sampleBodies()
	if err != nil {
		return nil, err
	}
	kinds := []struct {
		service, path string
		body          []byte
	}{{"trivial", "/echo", words}, {"title", "/v1/classify", words}, {"photo", "/v1/classify", picture}}
	return withCluster(ctx, b, func(c *cluster) ([]row, error) {
		cold := make([]sample, len(kinds))
		for i := range b.n {
			for k := range kinds {
				k = (k + i) % len(kinds) // each follows each
				err := every(ctx, 200*time.Millisecond, 3*time.Minute, func() (bool, error) {
					pods, err := c.podsOf(ctx, kinds[k].service)
					return len(pods) == 0, err
				})
				if err != nil {
					return nil, fmt.Errorf("%s does not go to zero: %w", kinds[k].service, err)
				}
				// The gateway follows the endpoints, and the kubelet its last pod.
				if err := pause(ctx, 2*time.Second); err != nil {
					return nil, err
				}
				ms, _, err := post(ctx, c.http, c.url(kinds[k].service, kinds[k].path), "", kinds[k].body)
				if err != nil {
					return nil, err
				}
				cold[k] = append(cold[k], ms/1000)
			}
			fmt.Fprintf(b.log, "\rcluster-cold: %d of %d", i+1, b.n)
		}
		fmt.Fprintln(b.log)
		rows := []row{{"cold start on the cluster, trivial Go service, s", cold[0].String(), ""}}
		for k, kind := range kinds[1:] {
			own := cold[k+1]
			rows = append(rows, row{"cold start on the cluster, " + kind.service + ", s", own.String(), ""},
				row{"  median over the trivial service's; of pairs", fmt.Sprintf("%.2f×; %s", own.median()/cold[0].median(), own.over(cold[0])), "≤ 1.1×"})
		}
		return rows, nil
	})
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
