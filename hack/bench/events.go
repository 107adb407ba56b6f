package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/activator/broker"
)

const (
	ingestFor   = 8 * time.Second
	ingestConns = 48
	halfGoal    = 5000 // events a second at which the latency is taken
)

// ingress measures how many events of 1 KB the broker accepts: broker, HTTP
// server and senders all in this process, so that senders take their part of
// the cores.
func ingress(ctx context.Context, b *bench) ([]row, error) {
	var rows []row
	for _, how := range []struct {
		name, goal string
		sync       bool
	}{{"default sync", "≥ 10,000/s", false}, {"--sync=always", "", true}} {
		s, err := newEvents(ctx, how.sync, nil)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(b.log, "ingress: %s, as fast as %d connections go\n", how.name, ingestConns)
		n, lat, err := s.load(ctx, 0)
		if err == nil {
			rows = append(rows, row{"ingress of 1 KB events, " + how.name, fmt.Sprintf("%.0f/s, p50 %.2f ms, p99 %.2f ms (%d senders)", float64(n)/ingestFor.Seconds(), lat.median(), lat.quantile(.99), ingestConns), how.goal})
			if !how.sync {
				fmt.Fprintf(b.log, "ingress: %d/s\n", halfGoal)
				n, lat, err = s.load(ctx, halfGoal)
				rows = append(rows, row{fmt.Sprintf("  at %d/s", halfGoal), fmt.Sprintf("%.0f/s, p50 %.2f ms, p99 %.2f ms", float64(n)/ingestFor.Seconds(), lat.median(), lat.quantile(.99)), "p99 ≤ 10 ms"})
			}
		}
		if err = errors.Join(err, s.close()); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// brokerHop measures what the broker adds: an event to a subscriber by its
// ingress, the reply back to it and to a second subscriber, over posting the
// event to the subscriber and reading its reply.
func brokerHop(ctx context.Context, b *bench) ([]row, error) {
	replies := make(chan string, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/sort", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		h := w.Header()
		h.Set("Ce-Specversion", "1.0")
		h.Set("Ce-Id", r.Header.Get("Ce-Id"))
		h.Set("Ce-Source", "/bench")
		h.Set("Ce-Type", "sorted")
		h.Set("Content-Type", "application/json")
		_, _ = w.Write(oneKB)
	})
	mux.HandleFunc("/results", func(_ http.ResponseWriter, r *http.Request) { replies <- r.Header.Get("Ce-Id") })
	s, err := newEvents(ctx, false, mux)
	if err != nil {
		return nil, err
	}
	var plain, through sample
	err = func() error {
		for i := range b.requests {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			start := time.Now()
			if err := s.post(ctx, "/sort", fmt.Sprint(i), http.StatusOK); err != nil {
				return err
			}
			plain = append(plain, ms(time.Since(start)))
			start = time.Now()
			if err := s.post(ctx, "/default/bench", fmt.Sprint(i), http.StatusAccepted); err != nil {
				return err
			}
			select {
			case <-replies:
			case <-time.After(time.Minute):
				return errors.New("no reply came through the broker within a minute")
			}
			through = append(through, ms(time.Since(start)))
		}
		return nil
	}()
	if err = errors.Join(err, s.close()); err != nil {
		return nil, err
	}
	return []row{{"event to reply event, through the broker over plain HTTP", fmt.Sprintf("p50 +%.2f ms (%.2f over %.2f), p99 +%.2f ms", through.median()-plain.median(), through.median(), plain.median(), through.quantile(.99)-plain.quantile(.99)), "≤ +3 ms p50"}}, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

var oneKB = []byte(`{"title":"` + strings.Repeat("red shirt ", 101) + `"}`)

// events is a broker and an HTTP server of this process.
type events struct {
	dir     string
	broker  *broker.Broker
	server  *http.Server
	address string
	stop    context.CancelFunc
	ran     chan error
	client  *http.Client
}

// newEvents starts a broker with the Broker default/bench; subscribers, where
// there are some, are Triggers to /sort and, of type sorted, to /results.
func newEvents(ctx context.Context, sync bool, subscribers http.Handler) (*events, error) {
	dir, err := os.MkdirTemp("", "aisle-bench-")
	if err != nil {
		return nil, err
	}
	s := &events{dir: dir, client: &http.Client{Timeout: time.Minute}, ran: make(chan error, 1)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.address = ln.Addr().String()
	if s.broker, err = broker.Open(ctx, broker.Options{Dir: dir, SyncAlways: sync}); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	manifests := []string{`{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: {name: bench}}`}
	mux := http.NewServeMux()
	mux.Handle("/default/bench", s.broker.Ingress())
	if subscribers != nil {
		mux.Handle("/", subscribers)
		for name, typ := range map[string]string{"sort": "bench", "results": "sorted"} {
			manifests = append(manifests, fmt.Sprintf(`{apiVersion: eventing.knative.dev/v1, kind: Trigger, metadata: {name: %s}, spec: {broker: bench, filter: {attributes: {type: %s}}, subscriber: {uri: "http://%s/%[1]s"}}}`, name, typ, s.address))
		}
	}
	var objects []broker.Object
	for _, text := range manifests {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
			return nil, err
		}
		o, findings := broker.Parse(u)
		if o == nil {
			return nil, fmt.Errorf("%s: %v", text, findings)
		}
		objects = append(objects, o)
	}
	if err := s.broker.Apply(ctx, objects); err != nil {
		return nil, errors.Join(err, s.broker.Close(), ln.Close())
	}
	ctx, s.stop = context.WithCancel(ctx)
	go func() { s.ran <- s.broker.Run(ctx) }()
	s.server = &http.Server{Handler: mux}
	go func() { _ = s.server.Serve(ln) }() // ends with close
	return s, nil
}

func (s *events) close() error {
	s.stop()
	return errors.Join(<-s.ran, s.server.Close(), s.broker.Close(), os.RemoveAll(s.dir))
}

func (s *events) post(ctx context.Context, path, id string, want int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.address+path, bytes.NewReader(oneKB))
	if err != nil {
		return err
	}
	for k, v := range map[string]string{"Ce-Specversion": "1.0", "Ce-Id": id, "Ce-Source": "/bench", "Ce-Type": "bench", "Content-Type": "application/json"} {
		req.Header.Set(k, v)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != want {
		return fmt.Errorf("POST %s: %s", path, resp.Status)
	}
	return err
}

// load posts events for ingestFor, rate a second or as many as go, over plain
// connections: net/http's client would take more of the cores than the server.
// Latencies, in ms, are from when an event was due.
func (s *events) load(ctx context.Context, rate int) (int, sample, error) {
	ctx, cancel := context.WithTimeout(ctx, ingestFor)
	defer cancel()
	var (
		n         atomic.Int64
		mu        sync.Mutex
		latencies sample
		failed    error
		wg        sync.WaitGroup
	)
	start := time.Now()
	for range ingestConns {
		wg.Go(func() {
			own, err := s.sender(ctx, start, rate, &n)
			mu.Lock()
			defer mu.Unlock()
			latencies, failed = append(latencies, own...), errors.Join(failed, err)
		})
	}
	wg.Wait()
	return len(latencies), latencies, failed
}

func (s *events) sender(ctx context.Context, start time.Time, rate int, n *atomic.Int64) (own sample, err error) {
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for ctx.Err() == nil {
		i := n.Add(1)
		due := time.Now()
		if rate > 0 {
			due = start.Add(time.Duration(i) * time.Second / time.Duration(rate))
			time.Sleep(time.Until(due))
		}
		if _, err := fmt.Fprintf(conn, "POST /default/bench HTTP/1.1\r\nHost: b\r\nCe-Specversion: 1.0\r\nCe-Id: %d\r\nCe-Source: /bench\r\nCe-Type: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", i, len(oneKB), oneKB); err != nil {
			return own, err
		}
		line, err := answers.ReadString('\n')
		if err != nil {
			return own, err
		}
		if !strings.HasPrefix(line, "HTTP/1.1 202 ") {
			return own, fmt.Errorf("an event was not accepted: %s", line)
		}
		for line != "\r\n" {
			if line, err = answers.ReadString('\n'); err != nil {
				return own, err
			}
		}
		own = append(own, ms(time.Since(due)))
	}
	return own, nil
}
