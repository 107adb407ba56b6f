package objects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// again is how long a watch that has ended is left alone.
const again = time.Second

// Follow passes every object to each: first those that are there, then every
// change, until ctx ends or each returns an error, which it returns. Each
// version of an object comes once, also where the server ends the watch or has
// forgotten where it was: then the list is read anew, and what went meanwhile
// is passed as deleted in its last version. After the objects of a list, each is
// called with watch.Bookmark and no object.
func Follow[T any](ctx context.Context, c *Client, k Kind, namespace, selector string, each func(watch.EventType, *T) error) error {
	f := &follower[T]{seen: map[string]versioned[T]{}, each: each}
	for {
		all, version, err := List[json.RawMessage](ctx, c, k, namespace, selector)
		if err != nil {
			return err
		}
		if err := f.listed(all); err != nil {
			return err
		}
		if err := f.watch(ctx, c, k, namespace, selector, version); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(again):
		}
	}
}

// follower remembers what it has passed on.
type follower[T any] struct {
	seen map[string]versioned[T] // by namespace/name; as many as a list may have
	each func(watch.EventType, *T) error
}

type versioned[T any] struct {
	version string
	object  *T
}

func (f *follower[T]) listed(all []json.RawMessage) error {
	there := map[string]bool{}
	for _, raw := range all {
		key, err := f.changed(watch.Added, raw)
		if err != nil {
			return err
		}
		there[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(f.seen)) {
		if gone := f.seen[key]; !there[key] {
			delete(f.seen, key)
			if err := f.each(watch.Deleted, gone.object); err != nil {
				return err
			}
		}
	}
	return f.each(watch.Bookmark, nil)
}

// changed passes an object on, unless that version of it was passed before.
func (f *follower[T]) changed(how watch.EventType, raw json.RawMessage) (key string, err error) {
	var id struct {
		Metadata struct{ Namespace, Name, ResourceVersion string }
	}
	o := new(T)
	if err := errors.Join(json.Unmarshal(raw, &id), json.Unmarshal(raw, o)); err != nil {
		return "", fmt.Errorf("read a watched object: %w", err)
	}
	key = id.Metadata.Namespace + "/" + id.Metadata.Name
	before, known := f.seen[key]
	switch {
	case how == watch.Deleted:
		delete(f.seen, key)
		return key, f.each(how, o)
	case known && before.version == id.Metadata.ResourceVersion:
		return key, nil
	case known:
		how = watch.Modified
	default:
		how = watch.Added
	}
	f.seen[key] = versioned[T]{id.Metadata.ResourceVersion, o}
	if len(f.seen) > maxObjects {
		return key, fmt.Errorf("there are more than %d objects to watch; choose a namespace with -n, or fewer with -l", maxObjects)
	}
	return key, f.each(how, o)
}

// watch passes every change after version on. That it returns nil means: begin
// anew, since the server ended it or knows that version no more.
func (f *follower[T]) watch(ctx context.Context, c *Client, k Kind, namespace, selector, version string) error {
	req := c.all(http.MethodGet, k, namespace).Param("watch", "1").Param("resourceVersion", version)
	if selector != "" {
		req.Param("labelSelector", selector)
	}
	body, err := req.Stream(ctx)
	if err != nil {
		if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
			return nil
		}
		return c.explain(err, "watch "+k.Plural, k)
	}
	defer body.Close()
	limited := &io.LimitedReader{R: body}
	for dec := json.NewDecoder(limited); ; {
		limited.N = maxObjectBytes
		var e struct {
			Type   watch.EventType
			Object json.RawMessage
		}
		switch err := dec.Decode(&e); {
		case err != nil && limited.N <= 0:
			return fmt.Errorf("watch %s: an object has more than %d MB", k.Plural, maxObjectBytes>>20)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return nil // it ended, as it does after some minutes, or broke
		}
		switch e.Type {
		case watch.Bookmark:
		case watch.Error:
			var s metav1.Status
			if err := json.Unmarshal(e.Object, &s); err != nil || s.Code != http.StatusGone {
				return c.explain(&apierrors.StatusError{ErrStatus: s}, "watch "+k.Plural, k)
			}
			return nil
		default:
			if _, err := f.changed(e.Type, e.Object); err != nil {
				return err
			}
		}
	}
}
