package kube

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/internal/manifest"
)

// maxWatches bounds how many watches are under way at once.
const maxWatches = 256

// watchEvent is a line of a watch.
type watchEvent struct {
	Type   objects.Type `json:"type"`
	Object any          `json:"object"`
}

const failed objects.Type = "ERROR"

func (s *Server) watch(w http.ResponseWriter, req *http.Request, q query) {
	defer s.watches.Add(-1)
	if s.watches.Add(1) > maxWatches {
		refuse(w, &metav1.Status{
			Code: http.StatusTooManyRequests, Reason: metav1.StatusReasonTooManyRequests,
			Message: fmt.Sprintf("%d watches are under way already; end some first", maxWatches),
		})
		return
	}
	mine, err := chosen(req)
	var from int64
	at := req.FormValue("resourceVersion")
	if err == nil && at != "" {
		if from, err = strconv.ParseInt(at, 10, 64); err != nil {
			err = fmt.Errorf("resourceVersion: %w", err)
		}
	}
	var ends <-chan time.Time
	if limit := req.FormValue("timeoutSeconds"); err == nil && limit != "" {
		var seconds int
		if seconds, err = strconv.Atoi(limit); err != nil || seconds < 0 || seconds > 86400 {
			err = fmt.Errorf("timeoutSeconds: want a number up to 86400, have %q", limit)
		} else if seconds > 0 {
			end := time.NewTimer(time.Duration(seconds) * time.Second)
			defer end.Stop()
			ends = end.C
		}
	}
	if err != nil {
		refuse(w, badRequest(err))
		return
	}
	tell := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	if from == 0 { // whatever there is, and then on
		var all []manifest.Object
		all, from = s.Store.List(q.resource, q.namespace)
		w.Header().Set("Content-Type", "application/json")
		for _, o := range all {
			if mine(o) && tell.Encode(watchEvent{objects.Added, o}) != nil {
				return
			}
		}
	}
	for begun := false; ; begun = true {
		events, now, changed, err := s.Store.Since(from)
		if err != nil && !begun {
			refuse(w, gone(err))
			return
		}
		if err != nil {
			_ = tell.Encode(watchEvent{failed, gone(err)}) // the watch ends either way
			return
		}
		w.Header().Set("Content-Type", "application/json")
		from = now
		for _, e := range events {
			if e.Key.GroupVersionResource != q.resource.GroupVersionResource || q.namespace != "" && e.Key.Namespace != q.namespace {
				continue
			}
			e, ok := e.Among(mine)
			if !ok {
				continue
			}
			if tell.Encode(watchEvent{e.Type, e.Object}) != nil {
				return
			}
		}
		if flush.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-ends:
			return
		case <-req.Context().Done():
			return
		}
	}
}

func gone(err error) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
		Code: http.StatusGone, Reason: metav1.StatusReasonExpired, Message: err.Error(),
	}
}
