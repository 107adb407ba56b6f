// Package prometheus asks a Prometheus what services of a cluster used, from
// what aisle-controller counts there: aisle_pod_seconds_total and
// aisle_gpu_seconds_total, by namespace and service.
//
// It is Prometheus' own arithmetic (increase over a day of UTC), so it is exact
// to about a scrape's interval for each service and start of the controller.
// How long a service was there is for how long it had a series, which is up to a
// day after its last pod: too low for one that rests longer, and too high, by a
// day at most, for one that was deleted. The most pods at once are the most over
// five minutes, rather too low than too high. What always-on would have cost
// follows from both.
//
// What is too old is not there: how long Prometheus keeps things is its own
// setting.
package prometheus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"aisle.dev/aisle/internal/client"
)

const (
	maxAnswer = 64 << 20
	patience  = time.Minute // for one query
)

// Server is a Prometheus server, or what speaks its HTTP API.
type Server struct {
	base *url.URL
	http *http.Client
}

// New takes the server's URL, with the prefix that it may serve below, and with
// a user and a password where it wants them.
func New(address string) (*Server, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is not a URL such as http://localhost:9090", address)
	}
	return &Server{base: u, http: &http.Client{Timeout: patience}}, nil
}

// The labels of what is counted. A scrape that has a namespace or a service of
// its own gives those that the metric came with the prefix exported_.
const (
	labels   = "namespace, exported_namespace, service, exported_service"
	exported = "exported_"
)

// Usage is what services used on the days of UTC from one to another, both
// included, as far as now.
func (s *Server) Usage(ctx context.Context, from, to, now time.Time) (client.Usage, error) {
	var u client.Usage
	for day := from; !day.After(to) && day.Before(now); day = day.AddDate(0, 0, 1) {
		end := day.AddDate(0, 0, 1)
		if now.Before(end) {
			end = now
		}
		rows, err := s.day(ctx, day, end)
		if err != nil {
			return u, err
		}
		u.Rows = append(u.Rows, rows...)
	}
	u.Sort()
	return u, nil
}

// step is how often a day is looked at for what needs it.
const step = time.Minute

// day asks about the time from one moment to another, which is of one day.
func (s *Server) day(ctx context.Context, begin, end time.Time) ([]client.UsageRow, error) {
	length := int(end.Sub(begin).Seconds())
	if length < 1 {
		return nil, nil
	}
	rows := map[service]*client.UsageRow{}
	sum := func(of string) string { return "sum by (" + labels + ") (" + of + ")" }
	looked := func(over, of string) string {
		return fmt.Sprintf("%s(%s[%ds:%ds])", over, of, length, int(step.Seconds()))
	}
	for _, q := range []struct {
		text string
		take func(*client.UsageRow, float64)
	}{
		{sum(fmt.Sprintf("increase(aisle_pod_seconds_total[%ds])", length)), func(r *client.UsageRow, v float64) { r.PodSeconds = v }},
		{sum(fmt.Sprintf("increase(aisle_gpu_seconds_total[%ds])", length)), func(r *client.UsageRow, v float64) { r.GPUSeconds = v }},
		{looked("count_over_time", sum("aisle_pod_seconds_total")), func(r *client.UsageRow, v float64) {
			r.DeclaredSeconds = min(v*step.Seconds(), float64(length))
		}},
		{looked("max_over_time", sum("rate(aisle_pod_seconds_total[5m])")), func(r *client.UsageRow, v float64) {
			r.Peak = int(math.Ceil(v - noise)) // there were at least as many at once as on average
		}},
	} {
		found, err := s.query(ctx, q.text, end)
		if err != nil {
			return nil, err
		}
		for at, v := range found {
			r := rows[at]
			if r == nil {
				r = &client.UsageRow{Date: begin.UTC().Format(time.DateOnly), Namespace: at.namespace, Service: at.name}
				rows[at] = r
			}
			q.take(r, v)
		}
	}
	all := make([]client.UsageRow, 0, len(rows))
	for _, r := range rows {
		// Whoever has run was there.
		r.DeclaredSeconds = max(r.DeclaredSeconds, r.PodSeconds/float64(max(1, r.Peak)))
		if r.PodSeconds > 0 { // a pod's GPUs are known from pods alone
			r.DeclaredGPUSeconds = r.DeclaredSeconds * r.GPUSeconds / r.PodSeconds
		}
		all = append(all, *r)
	}
	return all, nil
}

// noise is by how much a rate may be too high: Prometheus extrapolates it.
const noise = 0.1

// service is whose a value is.
type service struct{ namespace, name string }

// query asks for one vector.
func (s *Server) query(ctx context.Context, text string, at time.Time) (map[service]float64, error) {
	form := url.Values{"query": {text}, "time": {strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base.JoinPath("api/v1/query").String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus: %w; check --prometheus", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("it has more than %d bytes", maxAnswer)
	}
	if err != nil {
		return nil, fmt.Errorf("read Prometheus' answer: %w", err)
	}
	found, err := parse(body)
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus at %s (it answered %s): %w", s.base.Redacted(), resp.Status, err)
	}
	return found, nil
}

// parse reads an answer to an instant query.
func parse(body []byte) (map[service]float64, error) {
	var a struct {
		Status string
		Error  string
		Data   struct {
			ResultType string
			Result     json.RawMessage
		}
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("that is no answer of Prometheus' HTTP API: %w", err)
	}
	switch {
	case a.Status == "error":
		return nil, errors.New(a.Error)
	case a.Status != "success" || a.Data.ResultType != "vector":
		return nil, fmt.Errorf("that is no answer of Prometheus' HTTP API: status %.40q, result %.40q", a.Status, a.Data.ResultType)
	}
	var samples []struct {
		Metric map[string]string
		Value  [2]json.RawMessage // a time, and a number in a string
	}
	if err := json.Unmarshal(a.Data.Result, &samples); err != nil {
		return nil, fmt.Errorf("read the samples: %w", err)
	}
	found := make(map[service]float64, len(samples))
	for _, sample := range samples {
		var text string
		if err := json.Unmarshal(sample.Value[1], &text); err != nil {
			return nil, fmt.Errorf("read a sample: %w", err)
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("read a sample: %w", err)
		}
		if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
			return nil, fmt.Errorf("a sample is %s, and nothing is used less than 0 or without end", text)
		}
		label := func(name string) string {
			if v, ok := sample.Metric[exported+name]; ok {
				return v
			}
			return sample.Metric[name]
		}
		at := service{label("namespace"), label("service")}
		if at.name == "" {
			return nil, errors.New("a sample has no label service: these are not the metrics of aisle-controller")
		}
		found[at] += v
	}
	return found, nil
}
