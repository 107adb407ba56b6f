package compose

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/problem"
)

const (
	maxAnswer   = 1 << 20 // bounds a leg's answer; its depth the decoder bounds
	maxLabels   = 20_000  // bounds its labels
	usualLabels = 64      // room for an answer's labels without growing
)

var digest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// parseAnswer reads a classifier's answer. It accepts nothing that would
// make the composition's answer wrong: every label once, every probability
// in [0, 1], a sum of at most one, and a model that can be named.
func parseAnswer(body []byte) (prediction.Result, error) {
	r := prediction.Result{Predictions: make([]prediction.Prediction, 0, usualLabels)}
	if err := jsonv2.Unmarshal(body, &r); err != nil { // twice as fast as encoding/json, and stricter
		return r, fmt.Errorf("it is not the JSON of a prediction: %s", printable(err.Error()))
	}
	switch {
	case len(r.Predictions) == 0:
		return r, errors.New("it has no predictions")
	case len(r.Predictions) > maxLabels:
		return r, fmt.Errorf("it has %d labels: at most %d are read", len(r.Predictions), maxLabels)
	case r.Model.Name == "":
		return r, errors.New("it does not name its model")
	case !digest.MatchString(r.Model.Digest):
		return r, fmt.Errorf("the model's digest is %.80q", r.Model.Digest)
	}
	seen := make(map[string]struct{}, len(r.Predictions))
	var sum float64
	for _, p := range r.Predictions {
		if p.Label == "" {
			return r, errors.New("a label is empty")
		}
		if !(p.Probability >= 0 && p.Probability <= 1) {
			return r, fmt.Errorf("the probability of %.80q is %v", p.Label, p.Probability)
		}
		if _, twice := seen[p.Label]; twice {
			return r, fmt.Errorf("the label %.80q is there twice", p.Label)
		}
		seen[p.Label] = struct{}{}
		sum += p.Probability
	}
	if sum > 1.001 { // a classifier may round them for the wire
		return r, fmt.Errorf("the probabilities sum to %.4f", sum)
	}
	if sum == 0 {
		return r, errors.New("all probabilities are 0")
	}
	return r, nil
}

// best returns the prediction with the highest probability, the first of
// equals.
func best(ps []prediction.Prediction) prediction.Prediction {
	top := ps[0]
	for _, p := range ps[1:] {
		if p.Probability > top.Probability {
			top = p
		}
	}
	return top
}

// parseRefusal reads what a leg said no with: its problem+json, or the
// beginning of whatever text it sent.
func parseRefusal(body []byte) (typ, detail string) {
	var p struct{ Type, Detail, Error string }
	if json.Unmarshal(body, &p) == nil {
		if p.Detail == "" {
			p.Detail = p.Error
		}
		if p.Detail != "" {
			return p.Type, printable(p.Detail)
		}
	}
	return "", printable(string(body))
}

// printable makes one bounded line of a text that somebody else wrote.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == '\ufffd' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
	if r := []rune(strings.Join(strings.Fields(s), " ")); len(r) > 300 {
		return string(r[:300]) + "..."
	} else {
		return string(r)
	}
}

// maxPhases bounds what is passed on of a start.
const maxPhases = 16

// coldStart reads how long a request waited for a pod to start, in ms, and the
// phases of that start, as the engine says them:
//
//	Server-Timing: wake;dur=41.2, queued;dur=0.1, launched;dur=2.3, ...
func coldStart(h http.Header) (wake float64, phases []category.Phase) {
	for _, line := range h.Values("Server-Timing") {
		woken := false
		for metric := range strings.SplitSeq(line, ",") {
			name, ms, ok := timingMetric(metric)
			switch {
			case ok && name == "wake":
				wake, woken = ms, true
			case ok && woken && len(phases) < maxPhases: // before it stands the service's own
				phases = append(phases, category.Phase{Name: name, Ms: ms})
			}
		}
	}
	return wake, phases
}

// timingMetric reads one metric of a Server-Timing header.
func timingMetric(metric string) (name string, ms float64, ok bool) {
	name, params, _ := strings.Cut(metric, ";")
	for param := range strings.SplitSeq(params, ";") {
		v, found := strings.CutPrefix(strings.TrimSpace(param), "dur=")
		if !found {
			continue
		}
		ms, err := strconv.ParseFloat(v, 64)
		return strings.TrimSpace(name), ms, err == nil && ms >= 0 && !math.IsInf(ms, 0)
	}
	return strings.TrimSpace(name), 0, false
}

// retryAfter reads a Retry-After header, in seconds or as a date; 0 when
// there is none that can be read.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if s, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// isInputFault reports whether a leg's status says that the product itself
// is at fault.
func isInputFault(status int, typ string) bool {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return typ != problem.TypeNothingToRead
	}
	return false
}
