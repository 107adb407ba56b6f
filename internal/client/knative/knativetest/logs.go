package knativetest

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
)

func (s *Server) log(w http.ResponseWriter, r *http.Request, q query) {
	key := q.namespace + "/" + q.name + "/" + r.FormValue("container")
	if r.FormValue("previous") == "true" {
		key += "!"
	}
	s.mu.Lock()
	o := s.objects["/pods/"+q.namespace+"/"+q.name]
	text, any := s.logs[key]
	at := len(text)
	s.mu.Unlock()
	switch {
	case o == nil:
		s.missing(w, query{resource: "/pods", name: q.name})
		return
	case !any:
		status(w, http.StatusBadRequest, "BadRequest", fmt.Sprintf("container %q in pod %q is waiting to start: ContainerCreating", r.FormValue("container"), q.name), nil)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	limit, err := strconv.Atoi(r.FormValue("limitBytes"))
	if err != nil {
		limit = math.MaxInt
	}
	if tail, err := strconv.Atoi(r.FormValue("tailLines")); err == nil {
		text = text[max(0, len(text)-tail):]
	}
	for flush := http.NewResponseController(w); ; {
		for _, line := range text {
			line += "\n"
			line = line[:min(len(line), limit)]
			limit -= len(line)
			if _, err := io.WriteString(w, line); err != nil || limit == 0 {
				return
			}
		}
		if r.FormValue("follow") != "true" || flush.Flush() != nil {
			return
		}
		s.mu.Lock()
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed, ended := s.changed, s.ended[key]
		text = s.logs[key][at:]
		at += len(text)
		s.mu.Unlock()
		if len(text) > 0 {
			continue
		}
		if ended {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}
