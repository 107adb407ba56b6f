package main

import (
	"fmt"
	"strings"
	"time"

	"aisle.dev/aisle/internal/fetch"
	"aisle.dev/aisle/internal/metrics"
	"aisle.dev/aisle/internal/product"
)

// pictures makes what fetches pictures by URL.
func pictures(allow string, set *metrics.Set) (*fetch.Fetcher, error) {
	duration := set.Histogram("aisle_classifier_fetch_seconds", "What getting a picture by its URL took, by how it ended.",
		[]float64{.001, .01, .05, .1, .25, .5, 1, 2.5, 5}, "outcome")
	f, err := fetch.New(fetch.Options{
		Allow:    strings.FieldsFunc(allow, func(r rune) bool { return r == ',' || r == ' ' }),
		MaxBytes: product.MaxImage,
		Types:    []string{"image/"},
		Observe:  func(outcome string, took time.Duration) { duration.Observe(took.Seconds(), outcome) },
	})
	if err != nil {
		return nil, fmt.Errorf("FETCH_ALLOW: %w", err)
	}
	return f, nil
}
