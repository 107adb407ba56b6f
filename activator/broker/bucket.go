package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// bucket keeps small values by key in the store. It is made when there is
// something to keep.
type bucket struct {
	js      jetstream.JetStream
	name    string
	purpose string

	mu sync.Mutex // guards kv
	kv jetstream.KeyValue
}

// open gives the bucket, or nil where it is not there and not to be made.
func (b *bucket) open(ctx context.Context, create bool) (jetstream.KeyValue, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kv != nil {
		return b.kv, nil
	}
	kv, err := b.js.KeyValue(ctx, b.name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		if !create {
			return nil, nil
		}
		kv, err = b.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: b.name, Description: b.purpose, Storage: jetstream.FileStorage, History: 1})
	}
	if err != nil {
		return nil, fmt.Errorf("open the store's bucket %s: %w", b.name, err)
	}
	b.kv = kv
	return kv, nil
}

// load reads the value of a key; false: there is none.
func (b *bucket) load(ctx context.Context, key string, into any) (bool, error) {
	kv, err := b.open(ctx, false)
	if kv == nil {
		return false, err
	}
	entry, err := kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(entry.Value(), into)
	}
	if err != nil {
		return false, fmt.Errorf("read %s in the store's bucket %s: %w", key, b.name, err)
	}
	return true, nil
}

func (b *bucket) store(ctx context.Context, key string, v any) error {
	kv, err := b.open(ctx, true)
	if err != nil {
		return err
	}
	text, err := json.Marshal(v)
	if err == nil {
		_, err = kv.Put(ctx, key, text)
	}
	return err
}

func (b *bucket) forget(ctx context.Context, key string) error {
	kv, err := b.open(ctx, false)
	if kv == nil {
		return err
	}
	return kv.Purge(ctx, key)
}
