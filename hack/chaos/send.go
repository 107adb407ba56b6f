package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"aisle.dev/aisle/internal/event"
	"aisle.dev/aisle/internal/product"
)

// ingress is the Broker's path, and its host within an engine.
const (
	ingressPath = "/default/default"
	ingressHost = "broker-ingress.knative-eventing.svc.cluster.local"
)

// One in so many products is none: it ends as a dead letter.
const poisoned = 500

// One in so many has a picture, for the second classifier: the first one's
// answer alone is another answer.
const pictured = 20

// readPictures gives the committed drawings.
func readPictures() ([][]byte, error) {
	names, err := filepath.Glob(filepath.Join("samples", "drawings", "*.jpg"))
	if err != nil || len(names) == 0 {
		return nil, errors.Join(errors.New("there are no pictures in samples/drawings: run this in the project's root"), err)
	}
	var all [][]byte
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

// send posts every event until it is accepted, as a sender would that must
// not lose one.
func send(ctx context.Context, o options, address string, book *ledger, log *slog.Logger) error {
	var (
		next   atomic.Int64
		once   sync.Once // sets failed
		failed error
		wg     sync.WaitGroup
	)
	var pictures [][]byte
	if !o.standIn {
		if pictures, failed = readPictures(); failed != nil {
			return failed
		}
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: o.senders}}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := time.Now()
	for range o.senders {
		wg.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= o.events {
					return
				}
				if n > 0 && n%10_000 == 0 {
					log.Info("sent", "events", n, "after", time.Since(start).Round(time.Second))
				}
				time.Sleep(time.Until(start.Add(time.Duration(n) * time.Second / time.Duration(o.rate))))
				if err := sendOne(ctx, client, address, n, pictures); err != nil {
					once.Do(func() { failed = err })
					cancel()
					return
				}
				book.accepted(n)
			}
		})
	}
	wg.Wait()
	return failed
}

func sendOne(ctx context.Context, client *http.Client, address string, n int, pictures [][]byte) error {
	p := product.Product{ID: eventID(n), Title: titles[n%len(titles)]}
	if len(pictures) > 0 && n%pictured == 0 {
		p.Images = []product.Image{{Data: pictures[n/pictured%len(pictures)]}}
	}
	ev, err := event.NewProduct("/chaos", eventID(n), p)
	if err != nil {
		return err
	}
	if n%poisoned == poisoned-1 {
		ev.DataEncoded = []byte(`{"title":`)
	}
	h, body, err := event.Encode(ev, false)
	if err != nil {
		return err
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+ingressPath, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Host, req.Header = ingressHost, h.Clone()
		resp, err := client.Do(req)
		if err == nil {
			text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000)) // for the message
			resp.Body.Close()
			switch {
			case resp.StatusCode == http.StatusAccepted:
				return nil
			case resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusNotFound: // 404: its Brokers are not applied yet
				return fmt.Errorf("event %d: %s: %s", n, resp.Status, text)
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// titles are of products that the models know, and of some that they do not.
var titles = []string{
	"Puma Men White Running Sports Shoes", "Titan Women Silver Analogue Watch", "Levis Blue Slim Fit Jeans",
	"Fabindia Kurta Cotton Red", "Wildcraft Laptop Backpack 30 L", "Ray-Ban Aviator Sunglasses", "Bata Brown Leather Sandals",
	"Nike Dri-FIT Cap Black", "thing", "Baggit Brown Handbag", "Lino Perros Striped Tie", "Jockey Men Pack of 2 Briefs",
}
