package delivery_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"aisle.dev/aisle/cmd/aisle/internal/composertest"
	"aisle.dev/aisle/cmd/aisle/internal/delivery"
	"aisle.dev/aisle/internal/feed"
	"aisle.dev/aisle/internal/product"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// list is records in memory.
type list struct {
	titles []string
	next   int
	read   func(n int) // called before record n is handed out
	end    error
}

func (l *list) Next() (feed.Item, error) {
	if l.next == len(l.titles) {
		if l.end != nil {
			return feed.Item{}, l.end
		}
		return feed.Item{}, io.EOF
	}
	l.next++
	if l.read != nil {
		l.read(l.next)
	}
	return feed.Item{N: l.next, Line: l.next, Product: product.Product{ID: fmt.Sprint(l.next), Title: l.titles[l.next-1]}}, nil
}

func poster(t *testing.T, h http.Handler) *delivery.Poster {
	t.Helper()
	srv := httptest.NewServer(h)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := delivery.NewClient(4, "")
	t.Cleanup(func() {
		client.CloseIdleConnections()
		srv.Close()
	})
	return &delivery.Poster{To: u, Source: "/test", Attempts: 4, Timeout: 30 * time.Second, Client: client}
}

func run(t *testing.T, ctx context.Context, opts delivery.Options, records delivery.Records) (answers []string, done int, err error) {
	t.Helper()
	opts.Emit = func(a delivery.Answer) error {
		text := fmt.Sprint(a.Item.N, " ")
		if a.Err != nil {
			text += "! " + a.Err.Error()
		} else {
			text += a.Result.Category.Label
		}
		answers = append(answers, text)
		return nil
	}
	done, err = delivery.Run(ctx, records, opts)
	return answers, done, err
}

func TestInOrder(t *testing.T) {
	composer := &composertest.Composer{}
	var titles, want []string
	for i := range 60 {
		titles = append(titles, fmt.Sprintf("busy %d label%d", i%2, i))
		want = append(want, fmt.Sprintf("%d label%d", i+1, i))
	}
	got, done, err := run(t, t.Context(), delivery.Options{Poster: poster(t, composer), Concurrency: 4}, &list{titles: titles})
	if err != nil || done != 60 {
		t.Errorf("done %d, %v", done, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if most := composer.MostAtOnce(); most > 4 {
		t.Errorf("%d requests at once, want at most 4", most)
	}
}

func TestReasons(t *testing.T) {
	titles := []string{"a shirt", "refuse this", "broken tie", "half sock", "busy 9 x", "", "   "}
	got, _, err := run(t, t.Context(), delivery.Options{Poster: poster(t, &composertest.Composer{}), Concurrency: 2}, &list{titles: titles})
	if err != nil {
		t.Error(err)
	}
	want := []string{
		"1 shirt",
		"2 ! HTTP 422: this product is refused",
		"3 ! no category: title failed: it is broken; photo failed: it is broken",
		"4 sock",
		"5 ! HTTP 503: the queue is full (after 4 attempts)",
		"6 ! line 6: the product has neither a title nor an image; there is nothing to categorise",
		"7 ! line 7: the product has neither a title nor an image; there is nothing to categorise",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSkipAndLimit(t *testing.T) {
	got, done, err := run(t, t.Context(), delivery.Options{Poster: poster(t, &composertest.Composer{}), Concurrency: 2, Skip: 2, Limit: 2}, &list{titles: []string{"a", "b", "c", "d", "e"}})
	if diff := cmp.Diff([]string{"3 c", "4 d"}, got); diff != "" || done != 4 || err != nil {
		t.Errorf("done %d, %v (-want +got):\n%s", done, err, diff)
	}
}

func TestFileEndsBadly(t *testing.T) {
	bad := errors.New("disk gone")
	got, done, err := run(t, t.Context(), delivery.Options{Poster: poster(t, &composertest.Composer{}), Concurrency: 2}, &list{titles: []string{"a", "b"}, end: bad})
	if !errors.Is(err, bad) || done != 2 || len(got) != 2 {
		t.Errorf("answers %v, done %d, error %v; want both products, then %v", got, done, err, bad)
	}
}

// However large the file, no more is read than what is in flight allows.
func TestReadsOnDemand(t *testing.T) {
	stop := make(chan struct{})
	titles := make([]string, 10000)
	for i := range titles {
		titles[i] = "slow"
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	const concurrency = 4
	// Read, not yet taken by anyone: 1; taken: ordered holds 4, the collector 1.
	const most = 2*concurrency + 2
	all := make(chan struct{})
	records := &list{titles: titles}
	records.read = func(n int) {
		if n == concurrency+1 {
			close(all)
		}
	}
	go func() {
		<-all
		cancel(errors.New("enough"))
		close(stop)
	}()
	_, done, err := run(t, ctx, delivery.Options{Poster: poster(t, &composertest.Composer{Done: stop}), Concurrency: concurrency}, records)
	if err == nil || err.Error() != "enough" {
		t.Errorf("error %v, want the cause", err)
	}
	if done > most || records.next > most {
		t.Errorf("done %d, read %d records with %d in flight", done, records.next, concurrency)
	}
}

func TestInterruptTellsHowFar(t *testing.T) {
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	opts := delivery.Options{Poster: poster(t, &composertest.Composer{}), Concurrency: 1}
	emitted := 0
	opts.Emit = func(a delivery.Answer) error {
		if emitted++; emitted == 5 {
			cancel(interrupted)
		}
		return nil
	}
	done, err := delivery.Run(ctx, &list{titles: slices.Repeat([]string{"a"}, 1000)}, opts)
	if !errors.Is(err, interrupted) || done != emitted || done < 5 || done > 10 {
		t.Errorf("done %d of which %d were emitted, %v", done, emitted, err)
	}
}

func TestEmitError(t *testing.T) {
	full := errors.New("disk full")
	opts := delivery.Options{Poster: poster(t, &composertest.Composer{}), Concurrency: 3, Emit: func(delivery.Answer) error { return full }}
	if _, err := delivery.Run(t.Context(), &list{titles: slices.Repeat([]string{"a"}, 100)}, opts); !errors.Is(err, full) {
		t.Errorf("error %v, want %v", err, full)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := &url.URL{Scheme: "http", Host: l.Addr().String()}
	_ = l.Close() // the address is now one where nothing listens
	local := &url.URL{Scheme: "http", Host: "composer.default.localhost:" + to.Port()}
	p := &delivery.Poster{To: local, Source: "/test", Attempts: 2, Timeout: 5 * time.Second, Client: delivery.NewClient(1, ""), Help: "start Aisle with: aisle up"}
	if err := p.Check(t.Context()); !errors.Is(err, delivery.ErrUnreachable) || !strings.Contains(err.Error(), "aisle up") {
		t.Errorf("Check: %v", err)
	}
	if _, _, err := run(t, t.Context(), delivery.Options{Poster: p, Concurrency: 2}, &list{titles: []string{"a", "b", "c"}}); !errors.Is(err, delivery.ErrUnreachable) {
		t.Errorf("Run: %v", err)
	}
}

func TestNotAComposer(t *testing.T) {
	for name, h := range map[string]http.Handler{
		"another server": http.NotFoundHandler(),
		"a web page":     http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }),
		"an unknown host": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusMisdirectedRequest)
		}),
	} {
		t.Run(name, func(t *testing.T) {
			got, done, err := run(t, t.Context(), delivery.Options{Poster: poster(t, h), Concurrency: 2}, &list{titles: []string{"a", "b"}})
			if !errors.Is(err, delivery.ErrUnreachable) || done != 0 || len(got) != 0 {
				t.Errorf("answers %v, done %d, error %v", got, done, err)
			}
		})
	}
}

func TestTimeout(t *testing.T) {
	stop := make(chan struct{})
	p := poster(t, &composertest.Composer{Done: stop})
	t.Cleanup(func() { close(stop) })
	p.Timeout = 50 * time.Millisecond
	got, _, err := run(t, t.Context(), delivery.Options{Poster: p, Concurrency: 1}, &list{titles: []string{"slow"}})
	if diff := cmp.Diff([]string{"1 ! no answer within 50ms"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// A server that answers without reading leaves the transport reading the body
// while the worker goes on: with -race this finds a body that is used again
// too early.
func TestBodyIsNotSharedWithTheTransport(t *testing.T) {
	early := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusUnprocessableEntity)
	})
	titles := slices.Repeat([]string{strings.Repeat("x", product.MaxTitle)}, 50)
	got, _, err := run(t, t.Context(), delivery.Options{Poster: poster(t, early), Concurrency: 2}, &list{titles: titles})
	if err != nil || len(got) != 50 {
		t.Errorf("%d answers, %v", len(got), err)
	}
}

func TestCold(t *testing.T) {
	var ms []float64
	opts := delivery.Options{Poster: poster(t, &composertest.Composer{}), Concurrency: 1, Emit: func(a delivery.Answer) error {
		ms = append(ms, a.ColdMs(), float64(a.Wake.Microseconds()))
		return nil
	}}
	if _, err := delivery.Run(t.Context(), &list{titles: []string{"cold shirt", "warm shirt"}}, opts); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float64{40, 20500, 0, 0}, ms); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAppendProduct(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 20, 60)
		p := product.Product{
			ID: text.Draw(t, "id"), Title: text.Draw(t, "title"), Brand: text.Draw(t, "brand"),
			Attributes: rapid.MapOfN(text, text, 0, 3).Draw(t, "attributes"),
			Images: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) product.Image {
				if rapid.Bool().Draw(t, "url") {
					return product.Image{URL: "http://" + text.Draw(t, "host")}
				}
				return product.Image{Data: rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "data")}
			}), 0, 3).Draw(t, "images"),
		}
		out, err := delivery.AppendProduct([]byte("before"), p)
		if err != nil {
			t.Fatal(err)
		}
		var got product.Product
		if err := json.Unmarshal(out[len("before"):], &got); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		if diff := cmp.Diff(p, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestWait(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		attempt := rapid.IntRange(1, 100).Draw(t, "attempt")
		after := time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "after"))
		got := delivery.Wait(attempt, after, rapid.Float64Range(0, 0.999).Draw(t, "jitter"))
		if got < min(after, 30*time.Second) || got > 30*time.Second || got <= 0 {
			t.Fatalf("wait %v after attempt %d, asked for %v", got, attempt, after)
		}
	})
	if a, b := delivery.Wait(1, 0, 0.5), delivery.Wait(4, 0, 0.5); b < 4*a {
		t.Errorf("waits %v, then %v: they must grow", a, b)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "3": 3 * time.Second, " 1 ": time.Second, "-1": 0, "soon": 0, "99999999999": 0,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second, "Fri, 02 Jan 2026 03:00:00 GMT": 0,
	} {
		if got := delivery.RetryAfter(value, now); got != want {
			t.Errorf("RetryAfter(%q) = %v, want %v", value, got, want)
		}
	}
}

func TestWake(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "wake;dur=12.5": 12500 * time.Microsecond, "db;dur=3, wake;desc=x;dur=2": 2 * time.Millisecond,
		"awake;dur=1": 0, "wake": 0, "wake;dur=x": 0, "wake;dur=-3": 0,
	} {
		if got := delivery.Wake(http.Header{"Server-Timing": {value}}); got != want {
			t.Errorf("Wake(%q) = %v, want %v", value, got, want)
		}
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]string{
		"composer.default.localhost:8080": "127.0.0.1:8080", "localhost:80": "127.0.0.1:80",
		"localhost.:80": "127.0.0.1:80", "notlocalhost:80": "notlocalhost:80", "example.com:443": "example.com:443", "bad": "bad",
	} {
		if got := delivery.Loopback(addr); got != want {
			t.Errorf("Loopback(%q) = %q, want %q", addr, got, want)
		}
	}
}
