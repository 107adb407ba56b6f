package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/activator/broker"
	"aisle.dev/aisle/internal/category"
	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/prediction"
	"aisle.dev/aisle/internal/problem"
)

// The stand-in: this program again, in the roles of an engine, a composer and
// two classifiers. Their protocol is the composer's to the broker, and between
// them as little as will do.
const (
	roleVariable   = "CHAOS_ROLE"
	roleEngine     = "engine"
	roleComposer   = "composer"
	roleClassifier = "classifier"
)

func play(ctx context.Context, role string) error {
	switch role {
	case roleEngine:
		return playEngine(ctx)
	case roleComposer:
		return serveOn(ctx, os.Getenv("CHAOS_PORT"), problem.Handler(compose, nil))
	case roleClassifier:
		return serveOn(ctx, os.Getenv("CHAOS_PORT"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			title, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16)) // whatever came is classified
			fmt.Fprintf(w, "category-%d", len(title)%7)
		}))
	}
	return fmt.Errorf("no such role: %s", role)
}

func playEngine(ctx context.Context) error {
	b, err := broker.Open(ctx, broker.Options{Dir: filepath.Join(os.Getenv("CHAOS_DATA"), "events"), Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var functions sync.WaitGroup
	legs := ""
	composerPort := 0
	for _, role := range []string{roleClassifier, roleClassifier, roleComposer} {
		port, err := freePort()
		if err != nil {
			return err
		}
		env := append(os.Environ(), roleVariable+"="+role, "CHAOS_PORT="+strconv.Itoa(port), "CHAOS_LEGS="+legs)
		legs += " " + strconv.Itoa(port)
		composerPort = port
		functions.Go(func() { keep(ctx, role, env) })
	}
	set, err := parse(brokers(fmt.Sprintf("http://127.0.0.1:%d/", composerPort)) + "---\n" + collecting(os.Getenv("CHAOS_COLLECTOR")))
	if err == nil {
		err = b.Apply(ctx, set)
	}
	if err == nil {
		ran := make(chan error, 1)
		go func() { ran <- b.Run(ctx) }()
		_, port, _ := net.SplitHostPort(os.Getenv("CHAOS_ADDRESS"))
		err = serveOn(ctx, port, b.Ingress())
		cancel()
		err = errors.Join(err, <-ran)
	}
	cancel()
	functions.Wait()
	return errors.Join(err, b.Close())
}

// keep runs a function, and again when it was killed.
func keep(ctx context.Context, role string, env []string) {
	for ctx.Err() == nil {
		cmd := exec.CommandContext(ctx, "/proc/self/exe")
		cmd.Args = []string{role}
		cmd.Env = env
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		_ = cmd.Run() // killed, or stopped
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond): // as long as a start takes
		}
	}
}

func serveOn(ctx context.Context, port string, h http.Handler) error {
	ln, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: h}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })() // what is under way may go: it is a chaos
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// compose answers as the composer does: with the legs that answered, or not at
// all, so that the broker delivers again.
func compose(w http.ResponseWriter, r *http.Request) error {
	in, structured, err := event.Read(w, r, 1<<20)
	if err != nil {
		return err
	}
	p, err := event.Product(in)
	if err != nil {
		return err
	}
	res := category.Result{ID: p.ID, Status: category.Complete}
	parts := []string{in.Source(), in.ID()}
	for i, port := range strings.Fields(os.Getenv("CHAOS_LEGS")) {
		leg := category.Leg{Name: strconv.Itoa(i), Outcome: category.Answered, Model: &prediction.Model{Digest: "model-" + strconv.Itoa(i)}}
		start := time.Now()
		if leg.Label, err = ask(r.Context(), port, p.Title); err != nil {
			leg.Outcome, leg.Label, leg.Model, leg.Reason = category.LegFailed, "", nil, err.Error()
			res.Status = category.Partial
		} else {
			parts = append(parts, leg.Model.Digest)
			res.Category = &category.Category{Label: leg.Label, Confidence: .5}
		}
		leg.LatencyMs = float64(time.Since(start).Microseconds()) / 1000
		res.Legs = append(res.Legs, leg)
	}
	if res.Category == nil {
		return problem.New(http.StatusServiceUnavailable, "no leg answered")
	}
	out, err := event.New(event.TypeCategory, "/chaos/composer", event.ID(parts...), event.SchemaCategory, res)
	if err != nil {
		return err
	}
	out.SetExtension("causationid", in.ID())
	return event.Write(w, out, structured)
}

func ask(ctx context.Context, port, title string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1:"+port+"/", bytes.NewBufferString(title))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	label, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
	return string(label), err
}

// parse reads Brokers and Triggers.
func parse(text string) ([]broker.Object, error) {
	var all []broker.Object
	for doc := range strings.SplitSeq(text, "---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &u.Object); err != nil {
			return nil, err
		}
		o, findings := broker.Parse(u)
		if o == nil {
			return nil, fmt.Errorf("%s: %v", doc, findings)
		}
		all = append(all, o)
	}
	return all, nil
}
