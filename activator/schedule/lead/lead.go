// Package lead learns how long a service's pods take from their start until
// they are ready, so that a floor can be raised in time.
//
// It keeps the latest starts of each revision and answers with their 95th
// percentile, estimated from above: times of starts have heavy tails (a node
// that must come first, an image that must be pulled), and a pod that is late
// costs more than one that waits a little. A new revision goes by its
// predecessor's starts until it has enough of its own.
//
// It is pure: it takes the time, and keeps nothing but what MarshalJSON writes.
// A Book is not safe for concurrent use.
package lead

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"
)

const (
	// kept is how many starts of a revision count, the latest.
	kept = 64
	// fresh is how old a start may be to count, where there are enough younger.
	fresh = 6 * 7 * 24 * time.Hour
	// enough own starts make a revision stand on its own.
	enough = 8
	// revisions is how many of a service are remembered.
	revisions = 4
	// longest is the longest start that counts: a longer one was stuck.
	longest = 24 * time.Hour
)

// Book is the starts of all services. The zero value is empty.
type Book struct {
	// services has each service's revisions in the order in which they first
	// started a pod.
	services map[string][]revision
}

type revision struct {
	Name   string  `json:"name"`
	Starts []start `json:"starts"` // in the order of time
}

type start struct {
	At   time.Time     `json:"at"`
	Took time.Duration `json:"took"` // nanoseconds
}

// Observe takes down that a pod of a revision got ready at a time, and how long
// that took. What cannot be, such as a negative time, is left out.
func (b *Book) Observe(service, name string, took time.Duration, at time.Time) {
	if took <= 0 || took > longest {
		return
	}
	if b.services == nil {
		b.services = map[string][]revision{}
	}
	all := b.services[service]
	i := find(all, name)
	if i < 0 {
		all = append(all, revision{Name: name})
		if len(all) > revisions {
			all = slices.Delete(all, 0, len(all)-revisions)
		}
		i = len(all) - 1
	}
	all[i].Starts = append(all[i].Starts, start{At: at.Round(0), Took: took})
	if n := len(all[i].Starts); n > kept {
		all[i].Starts = slices.Delete(all[i].Starts, 0, n-kept)
	}
	b.services[service] = all
}

// P95 returns the lead time of a revision and of how many starts it was learned;
// 0, 0 where the service has never been seen to start.
func (b *Book) P95(service, name string, now time.Time) (lead time.Duration, sample int) {
	all := b.services[service]
	i := find(all, name)
	if i < 0 {
		i = len(all) - 1 // a revision that has started nothing yet: its predecessor's
	}
	for ; i >= 0; i-- {
		took := counting(all[i].Starts, now)
		if p := p95(took); p > lead {
			lead = p
		}
		sample += len(took)
		if len(took) >= enough {
			break
		}
	}
	return lead, sample
}

// Keep forgets all services but those.
func (b *Book) Keep(keep func(service string) bool) {
	for service := range b.services {
		if !keep(service) {
			delete(b.services, service)
		}
	}
}

func find(all []revision, name string) int {
	return slices.IndexFunc(all, func(r revision) bool { return r.Name == name })
}

// counting are the times of the starts that count.
func counting(all []start, now time.Time) []time.Duration {
	old := 0
	for old < len(all)-enough && now.Sub(all[old].At) > fresh {
		old++
	}
	took := make([]time.Duration, 0, len(all)-old)
	for _, s := range all[old:] {
		took = append(took, s.Took)
	}
	return took
}

// p95 estimates the 95th percentile from above. The rank is that of n+1 starts,
// of which the next is one; and a margin stands for the part of the tail that so
// few have not shown: the whole again after one start, an eighth after 64.
func p95(took []time.Duration) time.Duration {
	n := len(took)
	if n == 0 {
		return 0
	}
	slices.Sort(took)
	rank := min(n, int(math.Ceil(0.95*float64(n+1))))
	at := float64(took[rank-1])
	return min(time.Duration(at+at/math.Sqrt(float64(n))), longest)
}

// MarshalJSON writes what UnmarshalJSON reads.
func (b *Book) MarshalJSON() ([]byte, error) { return json.Marshal(b.services) }

// UnmarshalJSON takes what MarshalJSON wrote in place of what there is.
func (b *Book) UnmarshalJSON(text []byte) error {
	var services map[string][]revision
	if err := json.Unmarshal(text, &services); err != nil {
		return fmt.Errorf("lead times: %w", err)
	}
	*b = Book{}
	for service, all := range services {
		for _, r := range all {
			for _, s := range r.Starts {
				b.Observe(service, r.Name, s.Took, s.At)
			}
		}
	}
	return nil
}
