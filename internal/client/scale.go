package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"aisle.dev/aisle/internal/scaling"
)

// Scale is what bounds a service's pods now, and why.
type Scale struct {
	Namespace string    `json:"namespace"`
	Service   string    `json:"service"`
	Floor     int       `json:"floor"`
	Cap       int       `json:"cap"`              // 0: none
	Closed    bool      `json:"closed,omitempty"` // it takes no requests
	Opens     time.Time `json:"opens,omitzero"`   // when it does again; zero: never, as far as is known
	Cut       int       `json:"cut,omitempty"`    // the floor before it was cut to the cap; 0: it was not
	Next      time.Time `json:"next,omitzero"`    // when that changes by the clock; zero: never
	Why       []Holding `json:"why,omitempty"`
	// ByHand is what was set by hand; nil: nothing.
	ByHand   *scaling.ScalingSchedule `json:"byHand,omitempty"`
	DryRun   bool                     `json:"dryRun,omitempty"`   // nothing was written: this is what would be
	Warnings []string                 `json:"warnings,omitempty"` // what is worth to be told of a change
}

// Holding is one window that holds, or the service's own bounds.
type Holding struct {
	Schedule string    `json:"schedule,omitempty"` // empty: the service's own
	Window   string    `json:"window,omitempty"`
	Floor    int       `json:"floor,omitempty"` // 0: none
	Cap      int       `json:"cap,omitempty"`   // 0: none
	Closed   bool      `json:"closed,omitempty"`
	Early    bool      `json:"early,omitempty"` // its floor holds before it does, so that pods are ready
	Until    time.Time `json:"until,omitzero"`
	Reason   string    `json:"reason,omitempty"`
	By       string    `json:"by,omitempty"` // who set it by hand
}

// Changing says how bounds are set, or taken back.
type Changing struct {
	Dry bool // to try it
	// Read is what bounded the service when it was read: nothing is changed if
	// somebody has set something by hand since. nil: whatever is set.
	Read *Scale
}

// condition is that of a request (RFC 9110, 13.1).
func (c Changing) condition() http.Header {
	header := http.Header{}
	switch {
	case c.Read == nil:
	case c.Read.ByHand == nil:
		header.Set("If-None-Match", "*")
	default:
		header.Set("If-Match", ETag(c.Read.ByHand))
	}
	return header
}

// ETag names a schedule as people have written it: what is said of its status is
// no change to them.
func ETag(set *scaling.ScalingSchedule) string {
	return fmt.Sprintf(`"%s.%d"`, set.UID, set.Generation)
}

// scalePath is where a service is scaled by hand; name may be NAMESPACE/NAME.
func (e *Engine) scalePath(name string, dry bool) string {
	query := url.Values{}
	if e.Namespace != "" {
		query.Set("namespace", e.Namespace)
	}
	if dry {
		query.Set("dryRun", "true")
	}
	return "/v1/services/" + url.PathEscape(name) + "/scale?" + query.Encode()
}

// Scale says what bounds a service.
func (e *Engine) Scale(ctx context.Context, name string) (Scale, error) {
	var s Scale
	return s, e.get(ctx, e.scalePath(name, false), &s)
}

// SetScale sets bounds by hand, in the place of those that were.
func (e *Engine) SetScale(ctx context.Context, name string, hand scaling.ByHand, how Changing) (Scale, error) {
	text, err := json.Marshal(hand)
	if err != nil {
		return Scale{}, fmt.Errorf("scale %s: %w", name, err)
	}
	header := how.condition()
	header.Set("Content-Type", "application/json")
	return e.changeScale(ctx, http.MethodPut, name, header, text, how.Dry)
}

// ResetScale takes back what was set by hand.
func (e *Engine) ResetScale(ctx context.Context, name string, how Changing) (Scale, error) {
	return e.changeScale(ctx, http.MethodDelete, name, how.condition(), nil, how.Dry)
}

func (e *Engine) changeScale(ctx context.Context, method, name string, header http.Header, body []byte, dry bool) (s Scale, err error) {
	path := e.scalePath(name, dry)
	resp, err := e.do(ctx, method, path, header, bytes.NewReader(body))
	if err != nil {
		return s, err
	}
	return s, read(resp, path, &s)
}

// Audit gives the last changes of bounds, the newest first, of one service or,
// where name is empty, of all. T is an entry of the engine's audit log.
func Audit[T any](ctx context.Context, e *Engine, name string, limit int) ([]T, error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	for key, value := range map[string]string{"service": name, "namespace": e.Namespace} {
		if value != "" {
			query.Set(key, value)
		}
	}
	var all []T
	return all, e.get(ctx, "/v1/audit?"+query.Encode(), &all)
}
