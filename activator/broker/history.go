package broker

import (
	"context"
	"errors"
	"sort"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// trimEvery is the least time between two looks at what history is too old.
const trimEvery = time.Minute

// wakeTrimmer has Run look at history.
func (b *Broker) wakeTrimmer() {
	select {
	case b.trimNow <- struct{}{}:
	default:
	}
}

// trimHistory trims the history of all Brokers, and says after how long to
// look again: when the oldest event is too old.
func (b *Broker) trimHistory(ctx context.Context) time.Duration {
	next := b.opts.MaxAge
	for _, s := range b.brokers() {
		oldest, err := b.trimStream(ctx, s, 0)
		if err != nil && ctx.Err() == nil {
			b.log.Error("history cannot be trimmed", "broker", s.broker, "err", err)
			continue
		}
		if !oldest.IsZero() {
			next = min(next, time.Until(oldest.Add(b.opts.MaxAge)))
		}
	}
	return max(next, trimEvery)
}

// trim makes room for size bytes more out of history. It says whether it could.
func (b *Broker) trim(ctx context.Context, s *stream, size int64) bool {
	before := s.bytes.Load()
	_, err := b.trimStream(ctx, s, size)
	return err == nil && s.bytes.Load() < before
}

// trimStream purges what is too old or too much of a stream's history, and
// what stands in the way of need bytes more. It gives the time of the oldest
// event left.
func (b *Broker) trimStream(ctx context.Context, s *stream, need int64) (oldest time.Time, err error) {
	s.trimming.Lock()
	defer s.trimming.Unlock()
	st, err := b.store.js.Stream(ctx, s.name)
	if err != nil {
		return oldest, err
	}
	state := st.CachedInfo().State
	s.bytes.Store(int64(state.Bytes))
	s.sinceTrim.Store(0)
	if state.Msgs == 0 {
		return oldest, nil
	}
	// History ends where the first Trigger has something left to do.
	floor := state.LastSeq
	list := st.ListConsumers(ctx)
	for c := range list.Info() {
		if c.Config.Durable != "" { // others are who reads along
			floor = min(floor, c.AckFloor.Stream)
		}
	}
	if err := list.Err(); err != nil {
		return oldest, err
	}
	if floor < state.FirstSeq {
		return state.FirstTime, nil
	}
	history := int64(floor - state.FirstSeq + 1)
	each := max(int64(state.Bytes/state.Msgs), 1)
	drop := int64(0)
	if history*each > b.opts.HistoryBytes {
		drop = history - b.opts.HistoryBytes*3/4/each
	}
	if over := int64(state.Bytes) + need - b.opts.MaxBytes*3/4; need > 0 && over > 0 {
		drop = max(drop, over/each+1)
	}
	if tooOld := time.Now().Add(-b.opts.MaxAge); state.FirstTime.Before(tooOld) {
		drop = max(drop, b.olderThan(ctx, st, state.FirstSeq, int(history), tooOld))
	}
	if drop = min(drop, history); drop == 0 {
		return state.FirstTime, nil
	}
	if err := st.Purge(ctx, jetstream.WithPurgeSequence(state.FirstSeq+uint64(drop))); err != nil {
		return oldest, err
	}
	if st, err = b.store.js.Stream(ctx, s.name); err != nil {
		return oldest, err
	}
	state = st.CachedInfo().State
	s.bytes.Store(int64(state.Bytes))
	if state.Msgs == 0 {
		return oldest, nil
	}
	return state.FirstTime, nil
}

// olderThan counts the events of the first n that are older than a time. The
// store has gaps only before its first event, so that the search may halve.
func (b *Broker) olderThan(ctx context.Context, st jetstream.Stream, first uint64, n int, then time.Time) int64 {
	return int64(sort.Search(n, func(i int) bool {
		m, err := st.GetMsg(ctx, first+uint64(i))
		return err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && !m.Time.Before(then)
	}))
}
