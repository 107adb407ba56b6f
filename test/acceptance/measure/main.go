// Command measure measures a running engine from outside: how long a request
// takes that finds its service at zero, and what the engine's proxy adds to a
// pod's own answer.
//
//	measure -data-dir DIR -service title -path /v1/classify -body '{"title":"..."}' cold
//	measure ... overhead
//
// Figures are medians and percentiles of sequential requests; cold waits for
// the service to go to zero before each, as long as its windows say.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"aisle.dev/aisle/internal/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

type measurement struct {
	engine     *client.Engine
	address    string
	service    string // name.namespace
	path, kind string
	body       []byte
	n          int
	atZero     []string // services that must be at zero before each cold request
}

func run(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("measure", flag.ContinueOnError)
	dataDir := fs.String("data-dir", "", "the engine's data directory")
	service := fs.String("service", "title", "the service to ask")
	also := fs.String("and", "", "further services, comma-separated, that must be at zero too")
	path := fs.String("path", "/v1/classify", "path of the request")
	kind := fs.String("type", "application/json", "media type of the body")
	body := fs.String("body", `{"title":"Men Blue Running Shoes"}`, "body of the request; @FILE reads it from a file")
	n := fs.Int("n", 20, "how many requests (overhead: of each kind)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	m := &measurement{engine: client.NewEngine(*dataDir), service: *service, path: *path, kind: *kind, body: []byte(*body), n: *n}
	m.atZero = append([]string{*service}, strings.FieldsFunc(*also, func(r rune) bool { return r == ',' })...)
	if file, ok := strings.CutPrefix(*body, "@"); ok {
		var err error
		if m.body, err = os.ReadFile(file); err != nil {
			return err
		}
	}
	v, err := m.engine.Version(ctx)
	if err != nil {
		return err
	}
	m.address = v.Address
	switch fs.Arg(0) {
	case "cold":
		return m.cold(ctx, out)
	case "overhead":
		return m.overhead(ctx, out)
	}
	return fmt.Errorf("say what to measure: cold or overhead")
}

// caller dials one address for every URL.
func caller(address string, keep bool) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", address)
		},
		DisableKeepAlives: !keep, DisableCompression: true,
	}}
}

func (m *measurement) ask(ctx context.Context, c *http.Client) (time.Duration, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+m.service+".default.localhost"+m.path, bytes.NewReader(m.body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", m.kind)
	begun := time.Now()
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	took := time.Since(begun)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return took, resp.Header, err
}

func (m *measurement) cold(ctx context.Context, out io.Writer) error {
	c := caller(m.address, false)
	var took []time.Duration
	for range m.n {
		if err := m.rest(ctx); err != nil {
			return err
		}
		d, header, err := m.ask(ctx, c)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%.1f ms  Server-Timing: %s\n", ms(d), strings.Join(header.Values("Server-Timing"), ", "))
		took = append(took, d)
	}
	report(out, m.service+" from zero", took)
	return nil
}

// rest waits until none of the services has a pod.
func (m *measurement) rest(ctx context.Context) error {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	quiet := 0 // looks in a row: memory is given back and processes are gone
	for quiet < 5 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
		pods, err := m.engine.Pods(ctx)
		if err != nil {
			return err
		}
		quiet++
		for _, p := range pods {
			if slices.Contains(m.atZero, p.Service) {
				quiet = 0
			}
		}
	}
	return nil
}

// overhead asks the pod and the engine by turns, so that what else happens on
// the machine falls on both.
func (m *measurement) overhead(ctx context.Context, out io.Writer) error {
	through := caller(m.address, true)
	if _, _, err := m.ask(ctx, through); err != nil {
		return err
	}
	pods, err := m.engine.Pods(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(pods, func(p client.Pod) bool { return p.Service == m.service && p.Phase == "Ready" })
	if i < 0 {
		return errors.New("no ready pod of " + m.service)
	}
	direct := caller(pods[i].Address, true)
	var alone, proxied []time.Duration
	for range m.n {
		for _, side := range []struct {
			c  *http.Client
			to *[]time.Duration
		}{{direct, &alone}, {through, &proxied}} {
			d, _, err := m.ask(ctx, side.c)
			if err != nil {
				return err
			}
			*side.to = append(*side.to, d)
		}
	}
	report(out, "the pod alone", alone)
	report(out, "through the engine", proxied)
	fmt.Fprintf(out, "added: p50 %.3f ms, p99 %.3f ms\n", ms(percentile(proxied, 50)-percentile(alone, 50)), ms(percentile(proxied, 99)-percentile(alone, 99)))
	return nil
}

func report(out io.Writer, what string, took []time.Duration) {
	fmt.Fprintf(out, "%s: n=%d p50 %.3f ms, p90 %.3f, p99 %.3f, best %.3f, worst %.3f\n", what, len(took),
		ms(percentile(took, 50)), ms(percentile(took, 90)), ms(percentile(took, 99)), ms(percentile(took, 0)), ms(percentile(took, 100)))
}

// percentile is the nearest rank's. took is left sorted.
func percentile(took []time.Duration, p int) time.Duration {
	slices.Sort(took)
	return took[max(0, (len(took)*p+99)/100-1)]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
